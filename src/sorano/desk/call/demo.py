"""A call on this machine: `sorano desk call demo`.

A desk runs in this process; three programs join a call at it over HTTP and WebRTC (aiortc, VP8). The first two prove
their passkeys (simulated devices) and mark what their cameras show. After some seconds the second one's pictures are
replaced between its marker and its coder, as somebody does who takes over a camera or a connection. The third is a
guest with a picture and nothing else. What the desk says of the tiles is printed as it changes.

The cameras are drawn figures with the noise of a sensor, or videos that are given.
"""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sorano.desk.call.client import CallClient, Frames
from sorano.desk.demo import DemoDesk, stage

SIZE, FPS = (360, 640), 15.0
WANTED = 5.0  # seconds within which swapped pictures must be found


@dataclass
class CallOutcome:
    """What came of the demonstration; times are seconds of the call."""

    swapped_at: float = 0.0
    flagged_at: float | None = None  # when the swapped tile turned red
    honest_flagged: bool = False
    guest_confirmed: bool = False
    verdict: str = ""
    call_id: str = ""
    words: dict[str, str] = field(default_factory=dict)
    authentic_frames: int = 0
    timeline: dict[str, Any] = field(default_factory=dict)

    @property
    def as_expected(self) -> bool:
        """Whether the guard did what it is for."""
        found = self.flagged_at is not None and self.flagged_at - self.swapped_at <= WANTED
        return found and not self.honest_flagged and not self.guest_confirmed and self.verdict == "TAMPERED"


def figure(seed: int, size: tuple[int, int] = SIZE, fps: float = FPS) -> Frames:
    """Frames without end, uint8 RGB: a drawn person who sways before a wall, with the noise of a camera."""
    import cv2

    height, width = size
    random = np.random.default_rng(seed)
    down, across = np.mgrid[0:height, 0:width].astype(np.float32)
    tints = random.uniform(90, 200, (3, 3))
    wall = (
        tints[0] + 25 * np.sin(across / (60 + 20 * seed) + down / 90)[..., None] + random.normal(0, 6, (height, 1, 1))
    )
    grain = random.normal(0, 2.5, (height + 64, width + 64, 3)).astype(np.float32)
    for number in itertools.count():
        t = number / fps
        frame = wall.astype(np.float32)
        x, y = width / 2 + 12 * np.sin(1.1 * t + seed), height * 0.42 + 5 * np.sin(0.9 * t)
        head = (round(height * 0.17), round(height * 0.23))
        cv2.ellipse(frame, (round(x), round(height * 1.05)), (round(height * 0.4), round(height * 0.42)), 0, 0, 360,
                    tints[1].tolist(), -1)  # fmt: skip
        cv2.ellipse(frame, (round(x), round(y)), head, 0, 0, 360, (205.0, 165.0, 140.0), -1)
        for side in (-1, 1):
            cv2.circle(frame, (round(x + side * height * 0.065), round(y - 10)), 7, (60.0, 45.0, 40.0), -1)
        mouth = (round(height * 0.06), 2 + round(5 * abs(np.sin(6 * t))))
        cv2.ellipse(frame, (round(x), round(y + height * 0.11)), mouth, 0, 0, 360, (150.0, 70.0, 70.0), -1)
        frame = cv2.GaussianBlur(frame, (0, 0), 1.2)
        top, left = random.integers(0, 64, 2)
        yield np.asarray(cv2.add(frame, grain[top : top + height, left : left + width], dtype=cv2.CV_8U), np.uint8)


def filmed(path: Path, size: tuple[int, int] = SIZE) -> Frames:
    """The frames of a video, again and again, scaled to a size. Raises VideoError."""
    import cv2

    from sorano.media import read

    media = read.probe(path)
    while True:
        for chunk in read.chunks(media):
            for frame in chunk:
                yield cv2.resize(frame, size[::-1], interpolation=cv2.INTER_AREA)


def run(
    say: Callable[[str], None], *, seconds: float = 20.0, swap_at: float = 9.0, videos: tuple[Path, ...] = ()
) -> CallOutcome:
    """The whole demonstration in a folder of its own, which is gone afterwards."""
    sources = [filmed(one) for one in videos]
    sources += [figure(seed) for seed in range(1, 5 - len(sources))]
    with tempfile.TemporaryDirectory(prefix="sorano-desk-") as folder, stage(Path(folder)) as on:
        return asyncio.run(_call(on, say, seconds, swap_at, iter(sources)))


async def _call(
    on: DemoDesk, say: Callable[[str], None], seconds: float, swap_at: float, sources: Iterator[Frames]
) -> CallOutcome:
    room = on.people["cfo"].call("POST", "/rooms", {})
    clients = [CallClient.join(on.people[one], room["id"]) for one in ("cfo", "treasurer")]
    clients.append(CallClient.join_guest(on.send, room["id"], room["guest_code"], "Unknown"))
    found = CallOutcome(swapped_at=swap_at, call_id=room["id"])
    loop = asyncio.get_running_loop()
    began = loop.time()
    other = next(sources)

    def swap(_: float, marked: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return marked if loop.time() - began < swap_at else next(other)

    try:
        for client in clients:
            await client.send(next(sources), FPS, swap if client is clients[1] else None)
        told: dict[str, str] = {}
        began = loop.time()
        while loop.time() - began < seconds:
            await asyncio.sleep(0.25)
            shown = await asyncio.to_thread(clients[0].shown)
            _note(found, shown, [one.tile for one in clients], loop.time() - began, told, say)
        found.timeline = await asyncio.to_thread(clients[0].timeline)
    finally:
        await asyncio.gather(*(client.close() for client in clients))
    found.verdict = shown["verdict"]
    return found


def _note(
    found: CallOutcome,
    shown: dict[str, Any],
    tiles: list[str],
    at: float,
    told: dict[str, str],
    say: Callable[[str], None],
) -> None:
    """Take what the room shows into the outcome, and say what changed."""
    for tile in shown["tiles"]:
        if told.get(tile["id"]) != tile["state"]:
            told[tile["id"]] = tile["state"]
            say(f"  {at:5.1f} s  {tile['name']:<12} {tile['state'].replace('_', ' ')}")
        honest, swapped, guest = (tile["id"] == one for one in tiles)
        is_red = tile["state"] == "not_confirmed"
        found.honest_flagged |= honest and is_red
        found.guest_confirmed |= guest and tile["state"] == "confirmed"
        if swapped:
            found.words = tile.get("words", found.words)
            found.authentic_frames = tile["frames"]["authentic"]
            if is_red and found.flagged_at is None:
                found.flagged_at = at
