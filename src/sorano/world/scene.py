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

# The full world adds these; the core world's words keep their places.
FULL_KINDS = (*KINDS, "tree", "house", "boat", "balloon", "car")
FULL_GROUNDS = (*GROUNDS, "water")
FULL_MOTIONS = (*MOTIONS, "slides left", "slides right", "swings", "floats", "orbits", "collides")
FULL_CAMERAS = (*CAMERAS, "orbits", "rises")
WEATHERS = ("clear", "clouds", "fog", "rain", "snowfall")
OPPOSITES = {"left of": "right of", "right of": "left of", "in front of": "behind", "behind": "in front of"}

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
    "water": (0.10, 0.30, 0.42),
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

    With two things, relation "left of" means that things[0] is left of things[1]; with three, that they are listed
    from left to right. Truths always say "left of" or "in front of" (or None, where one thing circles another).
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
        if self.relation not in ("right of", "behind"):
            return self
        return replace(self, things=self.things[::-1], relation=OPPOSITES[self.relation])


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
    if world == "core":
        return _draw_core(stream, combinations=split == "combinations")
    return _draw_full(stream, combinations=split == "combinations")


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


# What the things of the full world may do: a house neither rolls nor bounces, and water carries nothing that rolls.
_SOLID = tuple(motion for motion in FULL_MOTIONS if motion not in ("floats", "collides"))
_MOTIONS_OF = {
    "tree": ("stays still", "falls", "spins", "jumps"),
    "house": ("stays still", "falls", "spins", "jumps"),
    "boat": ("stays still", "slides left", "slides right", "spins", "swings"),
    "balloon": ("rises", "floats", "falls", "swings", "orbits", "stays still"),
    "car": ("stays still", "rolls left", "rolls right", "jumps", "spins", "falls"),
}
_ON_WATER = {
    "boat": ("floats", "floats", "slides left", "slides right", "spins"),
    "balloon": ("rises", "floats", "swings", "orbits"),
    "": ("floats", "rises", "swings", "orbits", "slides left", "slides right"),
}
_COLLIDE = ("ball", "cube", "cylinder", "capsule", "torus", "car")


def _draw_full(stream: Stream, combinations: bool) -> Attributes:
    dice = stream.random()
    count = 1 if dice < 0.45 else 2 if dice < 0.85 else 3
    ground = stream.choice(FULL_GROUNDS)
    collide = count == 2 and ground != "water" and not combinations and stream.chance(0.15)
    while True:
        things = tuple(_full_thing(stream, ground, collide) for _ in range(count))
        if len({(thing.kind, thing.color) for thing in things}) < count:
            continue
        circling = sum(thing.motion == "orbits" for thing in things)
        if circling > 1 or (circling and count == 3):
            continue
        if any(map(held_out, things)) == combinations:
            break
    relation: str | None = None
    if count == 3:
        relation = "left of"
    elif count == 2 and not any(thing.motion == "orbits" for thing in things):
        sideways = collide or any("left" in str(t.motion) or "right" in str(t.motion) for t in things)
        relation = "in front of" if not sideways and stream.chance(0.35) else "left of"
    time = stream.choice(TIMES)
    weather = "clear" if stream.chance(0.4) else stream.choice(WEATHERS[1:])
    sun = "steady"
    if weather in ("clear", "clouds") and time in ("dawn", "sunset") and stream.chance(0.5):
        sun = "rises" if time == "dawn" else "sets"
    camera = "still" if stream.chance(0.3) else stream.choice(FULL_CAMERAS[1:])
    return Attributes(things, relation, ground, time, camera, weather, sun)


def _full_thing(stream: Stream, ground: str, collide: bool) -> Thing:
    kind = stream.choice(_COLLIDE if collide else FULL_KINDS)
    if ground == "water" and kind in ("tree", "house", "car"):
        kind = "boat"
    if collide:
        motion = "collides"
    elif ground == "water":
        motion = stream.choice(_ON_WATER.get(kind, _ON_WATER[""]))
    else:
        motion = stream.choice(_MOTIONS_OF.get(kind, _SOLID))
    finish = "shiny" if kind in (*KINDS, "car", "balloon") and stream.chance(0.25) else "matt"
    return Thing(kind, stream.choice(COLORS), stream.choice(SIZES), motion, finish)


def unit(x: float, y: float, z: float) -> tuple[float, float, float]:
    length = math.sqrt(x * x + y * y + z * z)
    return (x / length, y / length, z / length)
