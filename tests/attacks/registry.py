"""The rows of the table: what an attack is called, why it would succeed, and which verdicts its reach admits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Make = Callable[[Any, Path], Path]  # from the stage and an empty folder to the file to be verified
Check = Callable[[dict[str, Any]], str | None]  # from a report's JSON to what is wrong with it


@dataclass(frozen=True)
class Row:
    """One forgery or one honest copy."""

    name: str
    make: Make
    group: str
    quick: bool  # in the ordinary run
    admits: frozenset[str]  # verdicts beyond TAMPERED, SUSPICIOUS and UNVERIFIED that are no failure
    because: str  # why they are none
    check: Check | None = None
    refused: bool = True  # whether an error in place of a verdict is no failure

    @property
    def story(self) -> str:
        """What the attack does."""
        return (self.make.__doc__ or "").strip().splitlines()[0]


ATTACKS: dict[str, Row] = {}
HONEST: dict[str, Row] = {}


def attack(
    group: str,
    *,
    quick: bool = False,
    matched: str = "",
    verified: str = "",
    check: Check | None = None,
    refused: bool = True,
) -> Callable[[Make], Make]:
    """Register a forgery. `matched` and `verified` admit that verdict, each with the reason in words.

    `refused`: whether it may end as an error, in place of a verdict.
    """
    admits = frozenset(name for name, why in (("MATCHED", matched), ("VERIFIED", verified)) if why)

    def register(make: Make) -> Make:
        name = make.__name__
        if name in ATTACKS or not (make.__doc__ or "").strip():
            raise ValueError(f"the attack {name} is registered twice, or has no sentence that says what it does")
        ATTACKS[name] = Row(name, make, group, quick, admits, matched or verified, check, refused)
        return make

    return register


def honest(*verdicts: str, quick: bool = False, check: Check | None = None) -> Callable[[Make], Make]:
    """Register an honest file or copy: any verdict but TAMPERED, or only these."""

    def register(make: Make) -> Make:
        name = make.__name__
        if name in HONEST or not (make.__doc__ or "").strip():
            raise ValueError(f"the copy {name} is registered twice, or has no sentence that says what it is")
        HONEST[name] = Row(name, make, "honest", quick, frozenset(verdicts), "", check)
        return make

    return register
