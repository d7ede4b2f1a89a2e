"""The policy: a TOML file, and what it makes of a request.

Whatever a policy says, a request needs its purported requester and one independent approver: a file that asks for less
is refused. Rules only ever add approvals, a cooling-off, or a refusal.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime, time
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, get_type_hints
from zoneinfo import ZoneInfo

from sorano.desk.words import SECRECY, URGENCY
from sorano.errors import RequestError
from sorano.web.words import found_in

USUAL = Path(__file__).parent / "policy.toml"
NORMAL, HIGH, REFUSED = "normal", "high", "refused"
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
VERDICTS = ("VERIFIED", "MATCHED", "TAMPERED", "SUSPICIOUS", "UNVERIFIED")
UNKNOWN_CALL = "UNVERIFIED"  # of a call that no guard has spoken of
NEVER = Decimal("Infinity")


@dataclass(frozen=True, kw_only=True)
class ConfirmationPolicy:
    """The numbers of one policy file; amounts in `base`, times in seconds."""

    base: str = "HKD"
    rates: Mapping[str, Decimal] = field(default_factory=dict)
    approval_seconds: float = 900.0
    independent: int = 1
    independent_high: int = 2
    release_seconds: float = 86_400.0
    high_from: Decimal = NEVER
    refuse_from: Decimal = NEVER
    cooling_seconds: float = 86_400.0
    velocity_seconds: float = 86_400.0
    sum_high_from: Decimal = NEVER
    sum_refuse_from: Decimal = NEVER
    payee_high_from: Decimal = NEVER
    payee_refuse_from: Decimal = NEVER
    high_count: int = 1_000_000
    timezone: str = "UTC"
    opens: time = time(0)
    closes: time = time.max
    days: tuple[str, ...] = DAYS
    secrecy: tuple[str, ...] = ()
    urgency: tuple[str, ...] = ()
    call_high: tuple[str, ...] = ("UNVERIFIED", "SUSPICIOUS")
    call_refuse: tuple[str, ...] = ("TAMPERED",)
    codes_below: Decimal = Decimal(0)
    keep_seconds: float = 400 * 86_400.0


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known of a request when it is filed."""

    amount: Decimal
    currency: str
    note: str = ""
    at: float = 0.0  # seconds since 1970
    payee_is_known: bool = False
    account_is_known: bool = False  # for this payee
    account_of_another: bool = False  # it was paid under another payee's name
    call_verdict: str | None = None  # None: it did not come from a call
    # of the window before it, without the request itself
    sum_all: Decimal = Decimal(0)
    sum_payee: Decimal = Decimal(0)
    count: int = 0


@dataclass(frozen=True)
class Reason:
    """Why a request is out of the ordinary: a code that pages translate, and a sentence."""

    code: str
    text: str
    is_refusal: bool = False
    needs_cooling: bool = False


@dataclass(frozen=True)
class Decision:
    """What a request needs."""

    tier: str
    reasons: tuple[Reason, ...]
    independent: int
    cooling_seconds: float
    takes_codes: bool
    base_amount: Decimal | None


def assess(policy: ConfirmationPolicy, facts: Facts) -> Decision:
    """What a policy makes of a request."""
    rate = policy.rates.get(facts.currency)
    moves_money = facts.amount > 0  # a change of the desk moves none
    base = None if rate is None else facts.amount * rate
    reasons = (
        *(_of_money(policy, facts, base) if moves_money else ()),
        *_of_payee(facts),
        *_of_circumstances(policy, facts),
    )
    tier = REFUSED if any(one.is_refusal for one in reasons) else HIGH if reasons else NORMAL
    return Decision(
        tier=tier,
        reasons=reasons,
        independent=policy.independent if tier == NORMAL else max(policy.independent_high, policy.independent),
        cooling_seconds=policy.cooling_seconds if any(one.needs_cooling for one in reasons) else 0.0,
        takes_codes=moves_money and tier == NORMAL and base is not None and base < policy.codes_below,
        base_amount=base,
    )


def _of_money(policy: ConfirmationPolicy, facts: Facts, base: Decimal | None) -> list[Reason]:
    if base is None:
        return [Reason("no_rate", f"the policy has no rate for {facts.currency}")]
    limits = (  # code, what it is of, the sum before this request, limits
        ("amount", "the amount", Decimal(0), policy.high_from, policy.refuse_from),
        ("velocity", "the sum of the last hours", facts.sum_all, policy.sum_high_from, policy.sum_refuse_from),
        ("payee_velocity", "the sum to this payee or account", facts.sum_payee, policy.payee_high_from,
         policy.payee_refuse_from),
    )  # fmt: skip
    found: list[Reason] = []
    for code, what, before, high, refuse in limits:
        if before == 0 and any(one.is_refusal >= (base >= refuse) for one in found):
            continue  # a sum of one: the amount said it
        if before + base >= refuse:
            found.append(Reason(f"{code}_refused", f"{what} is above what this desk confirms", is_refusal=True))
        elif before + base >= high:
            found.append(Reason(code, f"{what} is high"))
    if facts.count + 1 >= policy.high_count:
        found.append(Reason("count", "there were many requests in the last hours"))
    return found


def _of_payee(facts: Facts) -> list[Reason]:
    found = []
    if not facts.payee_is_known:
        found.append(Reason("new_payee", "nothing was ever released to this payee", needs_cooling=True))
    elif not facts.account_is_known:
        found.append(Reason("changed_account", "this payee was paid to another account before", needs_cooling=True))
    if facts.account_of_another:
        found.append(Reason("shared_account", "this account was another payee's", needs_cooling=True))
    return found


def _of_circumstances(policy: ConfirmationPolicy, facts: Facts) -> list[Reason]:
    found = []
    local = datetime.fromtimestamp(facts.at, ZoneInfo(policy.timezone))
    if DAYS[local.weekday()] not in policy.days or not policy.opens <= local.time() < policy.closes:
        found.append(Reason("out_of_hours", "it is out of hours"))
    if found_in(facts.note, (*SECRECY, *policy.secrecy)):
        found.append(Reason("secrecy", "the note asks for secrecy"))
    if found_in(facts.note, (*URGENCY, *policy.urgency)):
        found.append(Reason("urgency", "the note asks for haste"))
    if facts.call_verdict in policy.call_refuse:
        found.append(Reason("call_refused", f"the call is {facts.call_verdict}", is_refusal=True))
    elif facts.call_verdict in policy.call_high:
        found.append(Reason("call", f"the call is {facts.call_verdict}"))
    return found


# The file.

_SECTIONS: dict[str, dict[str, tuple[str, float]]] = {  # section -> name in the file -> field, and its unit in seconds
    "approval": {"minutes": ("approval_seconds", 60), "independent": ("independent", 1),
                 "independent_high": ("independent_high", 1)},
    "release": {"hours": ("release_seconds", 3600)},
    "amount": {"high_from": ("high_from", 1), "refuse_from": ("refuse_from", 1)},
    "payee": {"cooling_hours": ("cooling_seconds", 3600)},
    "velocity": {"hours": ("velocity_seconds", 3600), "high_from": ("sum_high_from", 1),
                 "refuse_from": ("sum_refuse_from", 1), "payee_high_from": ("payee_high_from", 1),
                 "payee_refuse_from": ("payee_refuse_from", 1), "high_count": ("high_count", 1)},
    "hours": {"timezone": ("timezone", 1), "opens": ("opens", 1), "closes": ("closes", 1), "days": ("days", 1)},
    "words": {"secrecy": ("secrecy", 1), "urgency": ("urgency", 1)},
    "call": {"high": ("call_high", 1), "refuse": ("call_refuse", 1)},
    "fallback": {"codes_below": ("codes_below", 1)},
    "privacy": {"keep_days": ("keep_seconds", 86_400)},
}  # fmt: skip
_TYPES = get_type_hints(ConfirmationPolicy)


def read_policy(path: Path | None = None) -> ConfirmationPolicy:
    """The policy of a file, or the one that comes with Sorano. Raises RequestError that names the line's key."""
    path = path or USUAL
    try:
        words = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise RequestError(f"the policy {path} cannot be read: {error}", f"begin with a copy of {USUAL}") from error
    return policy_of(words)


def policy_of(words: Mapping[str, Any]) -> ConfirmationPolicy:
    """A policy of a parsed file. Raises RequestError."""
    values: dict[str, Any] = {}
    for section, held in words.items():
        if section == "base":
            values["base"] = _currency(held, "base")
        elif section == "rates" and isinstance(held, Mapping):
            values["rates"] = {_currency(name, "rates"): _amount(rate, f"rates.{name}") for name, rate in held.items()}
        elif section in _SECTIONS and isinstance(held, Mapping):
            for name, value in held.items():
                if name not in _SECTIONS[section]:
                    known = ", ".join(_SECTIONS[section])
                    raise RequestError(f"a policy has no {section}.{name}", f"in [{section}] there are: {known}")
                target, unit = _SECTIONS[section][name]
                values[target] = _value(target, value, unit, f"{section}.{name}")
        else:
            known = ", ".join(("base", "rates", *_SECTIONS))
            raise RequestError(f"a policy has no section {section!r}", f"there are: {known}")
    policy = ConfirmationPolicy(**values)
    _check(policy)
    return policy


def _value(target: str, value: Any, unit: float, name: str) -> Any:
    kind = _TYPES[target]
    if kind is Decimal:
        return _amount(value, name)
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e6:
        return float(value * unit)
    if kind is int and type(value) is int and 0 <= value <= 1_000_000:
        return value
    if kind is str and isinstance(value, str):
        return value
    if kind is time and isinstance(value, str):
        try:
            return time.fromisoformat(value)
        except ValueError as error:
            raise RequestError(f"{name} is no time of the day: {value!r}", 'write it like "08:30"') from error
    if kind == tuple[str, ...] and isinstance(value, list) and all(isinstance(one, str) and one for one in value):
        return tuple(value)
    raise RequestError(f"{name} cannot be {value!r}", f"see the same key in {USUAL}")


def _amount(value: Any, name: str) -> Decimal:
    try:
        found = Decimal(value) if isinstance(value, str) else None
    except InvalidOperation:
        found = None
    if found is None or not found.is_finite() or found < 0:
        raise RequestError(f"{name} is no amount: {value!r}", 'amounts are text, like "500000"')
    return found


def _currency(value: Any, name: str) -> str:
    if not isinstance(value, str) or len(value) != 3 or not value.isalpha() or value != value.upper():
        raise RequestError(f"{name}: {value!r} is no currency", 'write its three letters, like "HKD"')
    return value


def _check(policy: ConfirmationPolicy) -> None:
    """Raises RequestError for a policy that contradicts itself or asks for too little."""
    if policy.independent < 1:
        raise RequestError("approval.independent is below 1: one person could release money alone", "ask for 1 or more")
    if not 60 <= policy.approval_seconds <= 86_400:
        raise RequestError("approval.minutes is not between 1 and 1440", "15 is usual")
    if policy.rates.get(policy.base) != 1:
        raise RequestError(f"rates.{policy.base} must be 1: it is the base currency", 'write it as "1"')
    wrong = [one for one in policy.days if one not in DAYS]
    if wrong:
        raise RequestError(f"hours.days has no {wrong[0]!r}", f"days are {', '.join(DAYS)}")
    wrong = [one for one in (*policy.call_high, *policy.call_refuse) if one not in VERDICTS]
    if wrong:
        raise RequestError(f"call has no verdict {wrong[0]!r}", f"verdicts are {', '.join(VERDICTS)}")
    if policy.codes_below > policy.high_from:
        raise RequestError("fallback.codes_below is above amount.high_from", "codes are for small amounts alone")
    try:
        ZoneInfo(policy.timezone)
    except (KeyError, ValueError, OSError) as error:
        raise RequestError(
            f"hours.timezone {policy.timezone!r} is not known", 'name one like "Asia/Hong_Kong"'
        ) from error


def describe_policy(policy: ConfirmationPolicy) -> dict[str, Any]:
    """A policy as JSON."""
    shown = {one.name: getattr(policy, one.name) for one in fields(policy)}
    return {
        name: None
        if value == NEVER
        else {key: str(rate) for key, rate in value.items()}
        if isinstance(value, Mapping)
        else str(value)
        if isinstance(value, Decimal | time)
        else list(value)
        if isinstance(value, tuple)
        else value
        for name, value in shown.items()
    }
