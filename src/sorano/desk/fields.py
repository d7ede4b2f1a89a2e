"""The fields of a request: read strictly, in one spelling, so that what is shown is what is signed."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sorano.trust.printable import printable
from sorano.web.problems import Problem
from sorano.web.words import plain

CONFIGURE = "configure"  # of the desk itself: its amount is 0
ACTIONS = ("transfer", "payment", "change_account", "other", CONFIGURE)
FIELDS = ("action", "amount", "currency", "payee", "account", "requested_by", "call_id", "note")
REQUIRED = FIELDS[:6]
LIMITS = {"payee": 140, "account": 64, "requested_by": 40, "call_id": 100, "note": 1000}
AMOUNT = re.compile(r"[0-9]{1,15}(\.[0-9]{1,3})?")
ACCOUNT = re.compile(r"[A-Z0-9][A-Z0-9./-]{3,63}")
# Digits after the point, where they are not two (ISO 4217).
NO_CENTS = frozenset("BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF".split())
MILLS = frozenset("BHD IQD JOD KWD LYD OMR TND".split())
LAST = 4


@dataclass(frozen=True)
class Instruction:
    """What a request asks for."""

    action: str
    amount: Decimal
    currency: str
    payee: str
    account: str
    requested_by: str
    call_id: str
    note: str

    def words(self) -> dict[str, str]:
        """The fields as text, the amount with its currency's digits."""
        return {**{name: getattr(self, name) for name in FIELDS}, "amount": f"{self.amount:.{cents(self.currency)}f}"}


def cents(currency: str) -> int:
    """Digits after an amount's point."""
    return 0 if currency in NO_CENTS else 3 if currency in MILLS else 2


def read_order(body: Mapping[str, Any]) -> Instruction:
    """The order of a JSON body. Raises `Problem` that names the field."""
    unknown = [name for name in body if name not in FIELDS]
    if unknown:
        name = unknown[0][:40]
        raise Problem("unknown_parameter", f"a request has no {name!r}", f"it has {', '.join(FIELDS)}", param=name)
    missing = [name for name in REQUIRED if body.get(name) in (None, "")]
    if missing:
        raise Problem("missing_required_parameter", f"{missing[0]} is missing", "give it as text", param=missing[0])
    texts = {name: _text(name, body.get(name, "")) for name in FIELDS}
    if texts["action"] not in ACTIONS:
        raise Problem("invalid_value", "there is no such action", f"it is one of {', '.join(ACTIONS)}", param="action")
    currency = texts["currency"].upper()
    if not re.fullmatch(r"[A-Z]{3}", currency):
        raise Problem("invalid_value", "currency is three letters", "write it like HKD", param="currency")
    account = texts["account"].replace(" ", "").upper()
    if not ACCOUNT.fullmatch(account):
        raise Problem(
            "invalid_value", "account is 4 to 64 letters, digits, . / -", "write it as the bank does", param="account"
        )
    amount = _amount(texts["amount"], currency, is_zero=texts["action"] == CONFIGURE)
    return Instruction(
        texts["action"], amount, currency, texts["payee"], account, texts["requested_by"].casefold(), texts["call_id"],
        texts["note"],
    )  # fmt: skip


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        hint = 'amounts are text too: "13300000.00"' if name == "amount" else "put it in quotation marks"
        raise Problem("invalid_type", f"{name} is text", hint, param=name)
    most = LIMITS.get(name, 40)
    text = " ".join(unicodedata.normalize("NFC", value).split())
    if len(text) > most:
        raise Problem("invalid_value", f"{name} has at most {most} characters", "shorten it", param=name)
    if printable(text, most + 1) != text:
        raise Problem("invalid_value", f"{name} has characters that cannot be seen", "type it anew", param=name)
    return text


def _amount(text: str, currency: str, is_zero: bool) -> Decimal:
    if is_zero and text != "0":
        raise Problem("invalid_value", "the amount of a change of the desk is 0", "write 0", param="amount")
    if not is_zero and (not AMOUNT.fullmatch(text) or not 0 < Decimal(text)):
        raise Problem(
            "invalid_value", "amount is a number above 0 in digits", "write it like 13300000.00", param="amount"
        )
    found, digits = Decimal(text), cents(currency)
    if found != round(found, digits):
        raise Problem("invalid_value", f"{currency} has {digits} digits after the point", "round it", param="amount")
    return found


def digits_asked(words: Mapping[str, str]) -> str:
    """What an approver types: "account" for its last four characters, or "amount" where those are all the same."""
    return "account" if len(set(_last(words["account"]))) > 1 else "amount"


def digits_of(words: Mapping[str, str], asks: str) -> str:
    """What is to be typed: the account's last four letters and digits, or the amount before its point."""
    return _last(words["account"]) if asks == "account" else words["amount"].partition(".")[0]


def _last(account: str) -> str:
    return "".join(filter(str.isalnum, account))[-LAST:]


def payee_key(payee: str) -> str:
    """A payee's name for comparing: case, width, spaces and punctuation do not count."""
    return "".join(filter(str.isalnum, plain(payee)))
