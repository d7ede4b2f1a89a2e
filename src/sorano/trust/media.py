"""Foreign videos and pictures for marks and verification: what `sorano.media.read` finds, and the kind of container.

Not covered: what `sorano.media.read` and `sorano.media.pictures` name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from sorano.media import read
from sorano.media.colour import Colour
from sorano.media.read import MOST_SIDE, Shown, chunks, shown, sound
from sorano.trust import containers


@dataclass(frozen=True)
class Media(read.Media):
    """What a file holds, and whether C2PA has a place in it."""

    container: containers.Container = containers.Container("other", "application/octet-stream", False)

    def to_json(self) -> dict[str, Any]:
        """All of it as plain data, for another process."""
        return {**asdict(self), "path": str(self.path), "aspect": list(self.aspect.as_integer_ratio())}

    @classmethod
    def from_json(cls, words: Mapping[str, Any]) -> Media:
        """What `to_json` gave."""
        own = {
            "path": Path(words["path"]),
            "aspect": Fraction(*words["aspect"]),
            "colour": Colour(**words["colour"]),
            "container": containers.Container(**words["container"]),
        }
        return cls(**{**words, **own})


def probe(path: str | Path) -> Media:
    """What a file holds. Raises VideoError, each cause with its own words."""
    return Media(**vars(read.probe(path)), container=containers.sniff(path))


__all__ = ["MOST_SIDE", "Media", "Shown", "chunks", "probe", "shown", "sound"]
