"""What a scene is: its attributes in words, and how the splits draw them.

Everything here is plain data. `Attributes` holds the caption's canonical English words; `draw_attributes` draws
them from (split, seed); `draw_layout` (in `physics`) turns them into bodies. Numbers are drawn from `Stream`, a
counter-based generator of our own on BLAKE2b, so that a seed gives the same scene under every NumPy.

Axes: x right, y up, z away from the camera; metres, seconds, radians.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

Item = TypeVar("Item")

KINDS = ("ball", "cube", "cylinder", "cone", "torus", "capsule")
COLORS = ("red", "green", "blue", "yellow", "purple", "orange", "white", "black")
SIZES = ("small", "medium", "large")
GROUNDS = ("grass", "sand", "snow", "stone")
TIMES = ("dawn", "noon", "sunset", "night")
MOTIONS = ("stays still", "rolls left", "rolls right", "falls", "bounces", "rises", "spins", "jumps")
CAMERAS = ("still", "pans left", "pans right", "zooms in", "zooms out")
RELATIONS = ("left of", "right of")

SPLITS = ("train", "heldout", "combinations", "physics")
WORLDS = ("core", "full")

SIZE_METRES = {"small": 0.44, "medium": 0.67, "large": 0.98}  # the radius of a ball; other kinds fill about as much

# Reflectance as displayed; the renderer squares it into linear light (gamma 2).
COLOR_RGB = {
    "red": (0.86, 0.07, 0.08),
    "green": (0.04, 0.60, 0.27),
    "blue": (0.10, 0.27, 0.92),
    "yellow": (1.00, 0.88, 0.10),
    "purple": (0.55, 0.16, 0.78),
    "orange": (1.00, 0.48, 0.04),
    "white": (0.97, 0.97, 0.95),
    "black": (0.07, 0.07, 0.08),
}
GROUND_RGB = {
    "grass": (0.42, 0.60, 0.22),
    "sand": (0.85, 0.70, 0.46),
    "snow": (0.88, 0.92, 0.98),
    "stone": (0.50, 0.51, 0.54),
}


@dataclass(frozen=True)
class Thing:
    """One thing, in the caption's words; None is "not stated"."""

    kind: str | None
    color: str | None = None
    size: str | None = None
    motion: str | None = None
    finish: str | None = None  # "matt" or "shiny"


@dataclass(frozen=True)
class Attributes:
    """What a clip shows, in the caption's canonical English words; None is "not stated".

    With two things, relation "left of" means that things[0] is left of things[1]; truths of the core world always
    list things from left to right.
    """

    things: tuple[Thing, ...]
    relation: str | None = None
    ground: str | None = None
    time: str | None = None
    camera: str | None = None
    weather: str | None = None
    sun: str | None = None

    def canonical(self) -> Attributes:
        """The same statement with the relation read from the other end where that is the canonical one."""
        opposite = {"right of": "left of", "behind": "in front of"}.get(self.relation or "")
        if opposite is None:
            return self
        return replace(self, things=self.things[::-1], relation=opposite)


class Stream:
    """A stream of uniform numbers named by any words: equal names give equal streams, on every machine."""

    def __init__(self, *name: object) -> None:
        self._name = ":".join(map(str, name)).encode()
        self._block = 0
        self._numbers: list[float] = []

    def random(self) -> float:
        """Uniform in [0, 1), 53 bits."""
        if not self._numbers:
            digest = hashlib.blake2b(self._name + b"#%d" % self._block, digest_size=64).digest()
            self._block += 1
            words = (int.from_bytes(digest[i : i + 8], "little") for i in range(0, 64, 8))
            self._numbers = [(word >> 11) * 2.0**-53 for word in words]
        return self._numbers.pop()

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * self.random()

    def choice(self, items: Sequence[Item]) -> Item:
        return items[int(self.random() * len(items))]

    def chance(self, probability: float) -> bool:
        return self.random() < probability

    def shuffled(self, items: Sequence[Item]) -> list[Item]:
        rest = list(items)
        return [rest.pop(int(self.random() * len(rest))) for _ in range(len(rest))]


def held_out(thing: Thing) -> bool:
    """Whether (colour, kind, motion) is one of the about 5 % that training never shows."""
    name = f"combination:{thing.color}:{thing.kind}:{thing.motion}".encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=4).digest(), "little") % 20 == 7


def draw_attributes(split: str, seed: int, world: str = "core") -> Attributes:
    """The attributes of clip `seed` of `split`; every field is stated. Raises ValueError for unknown names."""
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}: one of {', '.join(SPLITS)}")
    if world not in WORLDS:
        raise ValueError(f"unknown world {world!r}: one of {', '.join(WORLDS)}")
    stream = Stream(world, split, seed, "attributes")
    return _draw_core(stream, combinations=split == "combinations")


def _draw_core(stream: Stream, combinations: bool) -> Attributes:
    count = 1 if stream.chance(0.6) else 2
    things: list[Thing] = []
    odd = int(stream.random() * count) if combinations else -1  # which thing has a held-out combination
    while len(things) < count:
        thing = Thing(stream.choice(KINDS), stream.choice(COLORS), stream.choice(SIZES), stream.choice(MOTIONS), "matt")
        if held_out(thing) != (len(things) == odd):
            continue
        if any((thing.kind, thing.color) == (other.kind, other.color) for other in things):
            continue  # captions tell things apart by colour and kind
        things.append(thing)
    return Attributes(
        things=tuple(things),
        relation="left of" if count == 2 else None,
        ground=stream.choice(GROUNDS),
        time=stream.choice(TIMES),
        camera="still" if stream.chance(0.3) else stream.choice(CAMERAS[1:]),
        weather="clear",
        sun="steady",
    )


def unit(x: float, y: float, z: float) -> tuple[float, float, float]:
    length = math.sqrt(x * x + y * y + z * z)
    return (x / length, y / length, z / length)
