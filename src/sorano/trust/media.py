"""Foreign videos and pictures for marks and verification: what `sorano.media.read` finds, and the kind of container.

Not covered: what `sorano.media.read` and `sorano.media.pictures` name.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sorano.errors import VideoError
from sorano.media import read
from sorano.media.read import MOST_SIDE, Picture, Shown, audio_alone, chunks, pictures_of, shown, sound
from sorano.trust.provenance import containers

AUDIO_RATE = 16_000  # samples a second, of what is fingerprinted and searched for a mark


@dataclass(frozen=True)
class InspectedMedia(read.Media):
    """What a file holds, and whether C2PA has a place in it."""

    container: containers.Container = containers.Container("other", "application/octet-stream", False)


def probe(path: str | Path) -> InspectedMedia:
    """What a file holds. Raises VideoError, each cause with its own words."""
    return InspectedMedia(**vars(read.probe(path)), container=containers.sniff(path))


def is_audio_file(path: Path) -> bool:
    """Whether a file can be read and holds audio alone, in a code that is known here."""
    try:
        return path.is_file() and read.is_audio_alone(path)
    except VideoError:
        return False


__all__ = [
    "AUDIO_RATE",
    "MOST_SIDE",
    "InspectedMedia",
    "Picture",
    "Shown",
    "audio_alone",
    "chunks",
    "is_audio_file",
    "pictures_of",
    "probe",
    "shown",
    "sound",
]
