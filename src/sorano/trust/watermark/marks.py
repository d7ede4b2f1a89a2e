"""A watermark that was read, as a verdict needs it.

Covered: what was read. Not covered: how (`trust/watermark/detect.py`), and what follows from it (`trust/judge.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

AUDIO_BITS = 16


def audio_payload(mark_id: int) -> int:
    """What the audio mark of a recording says: the last bits of its id."""
    return mark_id & ((1 << AUDIO_BITS) - 1)


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


@dataclass(frozen=True)
class DetectedAudioMark:
    """A mark that was read in the audio: the last bits of a recording's id, and the private carrier, if any."""

    payload: int
    confidence: float
    carrier_id: str | None = None

    def is_of(self, mark: DetectedMark) -> bool:
        """Whether it is what the recording of a mark in the picture was given."""
        return self.payload == audio_payload(mark.id) and self.carrier_id == mark.carrier_id
