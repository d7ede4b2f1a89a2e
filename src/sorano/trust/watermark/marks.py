"""A watermark that was read, as a verdict needs it.

Covered: what was read. Not covered: how (`trust/watermark/detect.py`), and what follows from it (`trust/verify.py`).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DetectedMark:
    """A mark that was read: its kind, its id, and the private carrier that it was found with, if any."""

    kind: str
    id: int
    confidence: float
    carrier_id: str | None = None
    commitment: str | None = None
    slots: tuple[int, int] | None = None  # of two seconds each: those that carry it, and all

    @property
    def where(self) -> str:
        """In how many parts of a video it was read, in words; nothing where there is one part."""
        if self.slots is None or self.slots[1] < 2:
            return ""
        read, count = self.slots
        parts = "all" if read == count else f"{read} of"
        return f", read in {parts} {count} parts of two seconds"
