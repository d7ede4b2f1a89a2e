"""What can be said about a file: the five verdicts, the evidence behind one, and the report that holds both.

VERIFIED: these bytes are under the signature of somebody who is trusted here. MATCHED: the mark's id found a manifest
of somebody who is trusted here, and all that is shown and heard matches its fingerprint: a copy, as far as this can be
seen. TAMPERED: it was changed after it was signed. SUSPICIOUS: nothing vouches for it and something is odd. UNVERIFIED:
all else; absence of proof is no proof of absence.

Not covered: how a verdict is reached (`sorano.trust.judge`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from sorano.errors import MatchedError, SuspiciousError, TamperedError, UnverifiedError
from sorano.trust.printable import printable_line

if TYPE_CHECKING:
    from sorano.trust.watermark.tamper import TamperedRegion


class Verdict(StrEnum):
    """What can be said about a file, with the command's exit code."""

    VERIFIED = "VERIFIED"
    MATCHED = "MATCHED"
    TAMPERED = "TAMPERED"
    SUSPICIOUS = "SUSPICIOUS"
    UNVERIFIED = "UNVERIFIED"

    @property
    def exit_code(self) -> int:
        """0, 6, 7, 8 or 9."""
        return {"VERIFIED": 0, "TAMPERED": 6, "SUSPICIOUS": 7, "UNVERIFIED": 8, "MATCHED": 9}[self.value]


@dataclass(frozen=True)
class Evidence:
    """One thing that was looked at: what was found, what that proves, what it does not, what to do next."""

    about: str  # credential, mark, manifest store, tamper map, label, indicators
    found: str
    proves: str
    does_not_prove: str
    next_step: str = ""


@dataclass(frozen=True)
class Report:
    """The verdict on a file, and the evidence for it."""

    path: str
    verdict: Verdict
    summary: str
    evidence: tuple[Evidence, ...]
    signer: str | None = None
    kind: str | None = None  # made, edited, captured: what the trusted signer says
    mark_id: str | None = None  # ten hexadecimal digits
    part: tuple[float, float, float] | None = None  # MATCHED: from, to, of how many seconds of what was signed
    box: tuple[float, float, float, float] | None = None  # of a larger picture, the part that a copy is: left, top ...
    regions: tuple[TamperedRegion, ...] = ()
    notes: tuple[str, ...] = ()
    media: dict[str, Any] = field(default_factory=dict)
    root: str | None = None  # the beginning of the fingerprint of the trusted root behind the signer
    signed_at: str | None = None  # where a time stamp says it

    def require(self, *accepted: Verdict) -> Report:
        """The report itself where it is VERIFIED, or of a verdict that is named as enough: `require(Verdict.MATCHED)`.

        Raises TamperedError, SuspiciousError, UnverifiedError or MatchedError.
        """
        errors = {
            Verdict.TAMPERED: TamperedError,
            Verdict.SUSPICIOUS: SuspiciousError,
            Verdict.UNVERIFIED: UnverifiedError,
            Verdict.MATCHED: MatchedError,
        }
        if self.verdict in errors and self.verdict not in accepted:
            step = next((one.next_step for one in self.evidence if one.next_step), None)
            raise errors[self.verdict](f"{self.path}: {self.verdict.value}: {self.summary}", step)
        return self

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON."""
        return {
            "path": self.path,
            "verdict": self.verdict.value,
            "summary": self.summary,
            "signer": self.signer,
            "kind": self.kind,
            "mark_id": self.mark_id,
            "part": self.part,
            "box": self.box,
            "regions": [one.__dict__ | {"box": list(one.box)} for one in self.regions],
            "evidence": [one.__dict__ for one in self.evidence],
            "notes": list(self.notes),
            "media": self.media,
            "root": self.root,
            "signed_at": self.signed_at,
        }

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> Report:
        """The reverse of `to_dict`."""
        words = {**found, "verdict": Verdict(found["verdict"]), "notes": tuple(found["notes"]), "regions": ()}
        words["evidence"] = tuple(Evidence(**one) for one in found["evidence"])
        for name in ("part", "box"):
            words[name] = None if found.get(name) is None else tuple(found[name])
        if found["regions"]:
            from sorano.trust.watermark.tamper import TamperedRegion

            words["regions"] = tuple(TamperedRegion(**{**one, "box": tuple(one["box"])}) for one in found["regions"])
        return cls(**words)

    def lines(self) -> list[str]:
        """The report for people."""
        out = [f"{self.verdict.value}  {self.path}", f"  {self.summary}"]
        for one in self.evidence:
            out.append(f"  {one.about}: {one.found}")
            out.append(f"    proves: {one.proves}")
            out.append(f"    does not prove: {one.does_not_prove}")
            if one.next_step:
                out.append(f"    next: {one.next_step}")
        return [printable_line(line) for line in out + [f"  note: {note}" for note in self.notes]]
