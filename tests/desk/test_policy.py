"""The policy, rule by rule, and what a file may not say."""

from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.desking import OPEN

from sorano.desk.policy import HIGH, NORMAL, REFUSED, USUAL, Facts, assess, policy_of, read_policy
from sorano.desk.words import SECRECY, URGENCY
from sorano.errors import RequestError
from sorano.web.words import found_in

POLICY = read_policy()
USUALLY = Facts(amount=Decimal(4000), currency="HKD", at=OPEN, payee_is_known=True, account_is_known=True)


def local(text):
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo("Asia/Hong_Kong")).timestamp()


RULES = [  # what is changed of the usual, the reason that it gives, and the tier
    ({"amount": Decimal("499999.99")}, None, NORMAL),
    ({"amount": Decimal(500_000)}, "amount", HIGH),
    ({"amount": Decimal(50_000_000)}, "amount_refused", REFUSED),
    ({"amount": Decimal(64_103), "currency": "USD"}, "amount", HIGH),  # 500,003.40 HKD
    ({"currency": "XAU"}, "no_rate", HIGH),
    ({"sum_all": Decimal(996_000)}, "velocity", HIGH),
    ({"sum_all": Decimal(49_996_000)}, "velocity_refused", REFUSED),
    ({"sum_payee": Decimal(496_000)}, "payee_velocity", HIGH),
    ({"sum_payee": Decimal(49_996_000)}, "payee_velocity_refused", REFUSED),
    ({"count": 6}, None, NORMAL),
    ({"count": 7}, "count", HIGH),
    ({"payee_is_known": False}, "new_payee", HIGH),
    ({"account_is_known": False}, "changed_account", HIGH),
    ({"account_of_another": True}, "shared_account", HIGH),
    ({"at": local("2026-11-25T08:29:59")}, "out_of_hours", HIGH),
    ({"at": local("2026-11-25T08:30:00")}, None, NORMAL),
    ({"at": local("2026-11-25T18:30:00")}, "out_of_hours", HIGH),
    ({"at": local("2026-11-28T11:00:00")}, "out_of_hours", HIGH),  # a Saturday
    ({"note": "Please keep this Strictly  Private."}, "secrecy", HIGH),
    ({"note": "此事保密"}, "secrecy", HIGH),
    ({"note": "請勿外傳"}, "secrecy", HIGH),
    ({"note": "pay it ASAP!"}, "urgency", HIGH),
    ({"note": "请尽 快办理"}, "urgency", HIGH),
    ({"note": "ＵＲＧＥＮＴ"}, "urgency", HIGH),
    ({"note": "The secretary of the agenda committee, Ms Asapong"}, None, NORMAL),
    ({"call_verdict": "VERIFIED"}, None, NORMAL),
    ({"call_verdict": "UNVERIFIED"}, "call", HIGH),
    ({"call_verdict": "SUSPICIOUS"}, "call", HIGH),
    ({"call_verdict": "TAMPERED"}, "call_refused", REFUSED),
]


@pytest.mark.parametrize("changed, reason, tier", RULES)
def test_a_rule(changed, reason, tier):
    found = assess(POLICY, replace(USUALLY, **changed))
    assert ([one.code for one in found.reasons], found.tier) == ([reason] if reason else [], tier)
    assert found.independent == (1 if tier == NORMAL else 2)


def test_new_payees_and_accounts_cool_off_and_nothing_else_does():
    for changed in ({"payee_is_known": False}, {"account_is_known": False}, {"account_of_another": True}):
        assert assess(POLICY, replace(USUALLY, **changed)).cooling_seconds == 86_400
    assert assess(POLICY, replace(USUALLY, amount=Decimal(600_000))).cooling_seconds == 0


def test_codes_are_for_small_ordinary_requests_alone():
    assert assess(POLICY, USUALLY).takes_codes
    for changed in ({"amount": Decimal(5000)}, {"count": 7}, {"currency": "XAU"}, {"payee_is_known": False}):
        assert not assess(POLICY, replace(USUALLY, **changed)).takes_codes


@given(
    st.decimals(1, 10**9, places=2), st.booleans(), st.booleans(), st.decimals(0, 10**9, places=2),
    st.sampled_from([None, "VERIFIED", "UNVERIFIED", "TAMPERED"]), st.floats(0, 4e9), st.text(max_size=60),
)  # fmt: skip
def test_more_risk_never_asks_for_less(amount, payee, account, total, verdict, at, note):
    facts = Facts(amount=amount, currency="HKD", payee_is_known=payee, account_is_known=account, sum_all=total,
                  call_verdict=verdict, at=at, note=note)  # fmt: skip
    found, more = assess(POLICY, facts), assess(POLICY, replace(facts, amount=amount * 2, sum_all=total * 2, count=9))
    order = (NORMAL, HIGH, REFUSED)
    assert order.index(more.tier) >= order.index(found.tier) and more.independent >= found.independent >= 1
    assert more.cooling_seconds >= found.cooling_seconds


WRONG = [
    ({"approval": {"independent": 0}}, "one person could release money alone"),
    ({"approval": {"minutes": 0}}, "between 1 and 1440"),
    ({"amount": {"high_from": 500000}}, "amounts are text"),
    ({"amount": {"high_from": "-1"}}, "is no amount"),
    ({"amount": {"high_form": "1"}}, "has no amount.high_form"),
    ({"ammount": {}}, "no section 'ammount'"),
    ({"rates": {"HKD": "7.8"}}, "must be 1"),
    ({"hours": {"opens": "25:00"}}, "no time of the day"),
    ({"hours": {"timezone": "Hong Kong"}}, "is not known"),
    ({"hours": {"days": ["monday"]}}, "no 'monday'"),
    ({"call": {"refuse": ["FAKE"]}}, "no verdict 'FAKE'"),
    ({"amount": {"high_from": "1000"}, "fallback": {"codes_below": "2000"}}, "above amount.high_from"),
    ({"approval": {"independent": True}}, "cannot be True"),
    ({"words": {"secrecy": "hush"}}, "cannot be 'hush'"),
]


@pytest.mark.parametrize("words, said", WRONG)
def test_a_file_that_is_wrong_says_where(words, said):
    with pytest.raises(RequestError, match=said) as caught:
        policy_of({"base": "HKD", "rates": {"HKD": "1"}, **words})
    assert caught.value.hint


def test_the_usual_file_is_the_documented_one(tmp_path):
    assert POLICY.independent == 1 and POLICY.independent_high == 2 and POLICY.timezone == "Asia/Hong_Kong"
    copy = tmp_path / "policy.toml"
    copy.write_text("\ufeff" + USUAL.read_text(encoding="utf-8"), encoding="utf-8")
    assert read_policy(copy) == POLICY


def test_every_word_is_found_in_a_sentence():
    for words in (SECRECY, URGENCY):
        assert len(set(words)) == len(words)
        for word in words:
            sentence = f"Please, {word.upper()}; thanks" if word.isascii() else f"请{word}处理"
            assert found_in(sentence, (word,)), word
