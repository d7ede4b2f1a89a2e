"""A recording of a call: every tile with what was said of it, marked and signed, and the timeline beside it.

    NAME.mp4             the tiles in a grid; a bar below each is green, red or grey by its state, second by second
    NAME.mp4.call.json   {file, sha256, timeline, received, refused}, signed by this user

`timeline` is the desk's, and signed by it; `received` counts the seconds with and without a mark, as judged here from
the bundles of keys; `refused` says why a bundle was not believed (null: all were), and nothing after it was counted.

The file goes the way of any recording of one's own (`sorano mark`): mark, C2PA signature, read back.

Covered: pictures as the desk passed them on. Not covered: sound; what participants see that the desk does not pass on.
"""

from __future__ import annotations

import asyncio
import math
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
from numpy.typing import NDArray

from sorano.desk.call.client import CallClient
from sorano.desk.call.media import luma_of
from sorano.desk.call.receiver import CallReceiver
from sorano.desk.cases import RECORDING, SUFFIX
from sorano.desk.client import Program, Refusal, over_http
from sorano.desk.ledger import signed
from sorano.errors import RequestError, TamperedError
from sorano.files import sha256, write_atomic
from sorano.trust.provenance import keys

Frame = NDArray[np.uint8]

FPS = 12.0
TILE_HEIGHT, TILE_WIDTH, BAR = 226, 400, 24
ACROSS, FEW, MOST = 3, 6, 12  # tiles in a row; places of a grid, and of one of a large call
COLOURS = {"confirmed": (40, 150, 70), "not_confirmed": (200, 40, 40)}
GREY = (110, 110, 110)
LOST = (Refusal, URLError, ConnectionError, TimeoutError)  # of a desk that ended, or forgot the call


@dataclass
class Recording:
    """What was written."""

    path: Path
    timeline: Path
    verdict: str
    seconds: float


async def record(client: CallClient, target: Path, seconds: float, is_over: Callable[[], bool]) -> Recording:
    """Record a call for some seconds, or until `is_over`. Raises RequestError where nobody sent pictures."""
    from sorano.trust.record import Marking, mark_file
    from sorano.video import check_target, writing

    beside = target.with_name(target.name + SUFFIX)
    check_target(target, overwrite=False)
    if beside.exists():
        raise RequestError(f"{beside} is there already and is kept", "name another file")
    grid = CallGrid(client)
    with tempfile.TemporaryDirectory(prefix="sorano-call-") as folder:
        plain = Path(folder) / "call.mp4"
        loop = asyncio.get_running_loop()
        began, count = loop.time(), 0
        with writing(plain, FPS, overwrite=False) as writer:
            while loop.time() - began < seconds and not is_over():
                if not await grid.look():
                    break
                due = int((loop.time() - began) * FPS) + 1
                writer.put(np.repeat(grid.picture()[None], max(1, due - count), 0))  # a slow machine repeats frames
                count = max(due, count + 1)
                await asyncio.sleep(max(0.0, began + count / FPS - loop.time()))
        if not grid.seen:
            raise RequestError("no tile of this call sent pictures", "record while somebody is in it")
        try:
            timeline = await asyncio.to_thread(client.timeline)
        except LOST:
            timeline = None
        words = Marking(kind="captured", title=f"Call {client.room}")
        await asyncio.to_thread(lambda: mark_file(plain, target, words, overwrite=False))
    told = {
        "type": RECORDING,
        "file": target.name,
        "sha256": sha256(target),
        "timeline": timeline,
        **grid.report(),
    }
    write_atomic(beside, signed(told, keys.identity()), private=True)
    return Recording(target, beside, str(timeline["verdict"]) if timeline else "UNVERIFIED", count / FPS)


def record_call(address: str, call: str, key: str, target: Path, seconds: float) -> Recording:
    """Record a call of the desk at an address, with a key of the scope guard, until Ctrl-C at the latest.

    Raises RequestError where the desk refuses or cannot be reached.
    """
    over = threading.Event()
    before = signal.signal(signal.SIGINT, lambda *_: over.set())
    try:
        return asyncio.run(_record(address.rstrip("/"), call, key, target, seconds, over.is_set))
    except Refusal as refused:
        raise RequestError(f"the desk refused: {refused.message}", "see the call's page") from refused
    except (URLError, ConnectionError, TimeoutError) as error:
        raise RequestError(f"no desk answers at {address}", "start it: sorano desk serve") from error
    finally:
        signal.signal(signal.SIGINT, before)


async def _record(
    address: str, call: str, key: str, target: Path, seconds: float, is_over: Callable[[], bool]
) -> Recording:
    client = CallClient.look_on(Program(over_http(address), key), call)
    try:
        return await record(client, target, seconds, is_over)
    finally:
        await client.close()


class CallGrid:
    """The tiles of a call, as they are now."""

    def __init__(self, client: CallClient) -> None:
        self.client = client
        self.newest: dict[str, Frame] = {}
        self.tiles: list[dict[str, Any]] = []
        self.seen = False
        self._watched: set[str] = set()
        self._looked = -math.inf
        self.receiver = CallReceiver(client.room)
        self.refused = ""
        self._places = 0  # known with the first picture, for a video has one size
        self._tasks: set[asyncio.Task[Any]] = set()

    async def look(self) -> bool:
        """Ask who is there and what is said of them, a few times a second; begin to watch who is new.

        False where the desk no longer answers: what was recorded is kept.
        """
        now = asyncio.get_running_loop().time()
        if now - self._looked < 0.4:
            return True
        self._looked = now
        try:
            self.tiles = (await asyncio.to_thread(self.client.shown))["tiles"]
            bundles = await asyncio.to_thread(self.client.bundles, self.receiver.last) if not self.refused else []
            for bundle in bundles:
                self.receiver.take(bundle, time.time())
        except TamperedError as error:  # the pictures are recorded all the same, and this with them
            self.refused = str(error)
        except LOST:
            if not self.seen:
                raise
            return False
        for tile in self.tiles:
            if tile["id"] not in self._watched:
                try:
                    track = await self.client.watch(tile["id"])
                except Refusal:  # it sends nothing yet
                    continue
                self._watched.add(tile["id"])
                task = asyncio.create_task(self._take(tile["id"], track))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        return True

    def report(self) -> dict[str, Any]:
        """What was judged here, and why a bundle was not believed (None: all were)."""
        return {"received": self.receiver.report(), "refused": self.refused or None}

    async def _take(self, tile: str, track: Any) -> None:
        from aiortc.mediastreams import MediaStreamError

        try:
            while True:
                frame = await track.recv()
                self.receiver.see(tile, luma_of(frame), time.time())
                self.newest[tile] = frame.to_ndarray(format="rgb24")
                self.seen = True
        except MediaStreamError:
            self.newest.pop(tile, None)

    def picture(self) -> Frame:
        """The grid, uint8 RGB. Who comes when all places are taken is in the timeline alone."""
        import cv2

        self._places = self._places or (FEW if len(self.tiles) <= FEW else MOST)
        down = self._places // ACROSS
        picture = np.full((down * (TILE_HEIGHT + BAR), ACROSS * TILE_WIDTH, 3), 24, np.uint8)
        for place, tile in enumerate(self.tiles[: self._places]):
            top, left = place // ACROSS * (TILE_HEIGHT + BAR), place % ACROSS * TILE_WIDTH
            shown = self.newest.get(tile["id"])
            if shown is not None:
                fitted = cv2.resize(shown, (TILE_WIDTH, TILE_HEIGHT), interpolation=cv2.INTER_AREA)
                picture[top : top + TILE_HEIGHT, left : left + TILE_WIDTH] = fitted
            bar = picture[top + TILE_HEIGHT : top + TILE_HEIGHT + BAR, left : left + TILE_WIDTH]
            bar[:] = COLOURS.get(tile["state"], GREY)
            name = tile["name"].encode("ascii", "replace").decode()
            label = np.ascontiguousarray(bar)
            cv2.putText(label, f"{name}: {tile['state'].replace('_', ' ')}", (10, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.5,
                        (255, 255, 255), 1, cv2.LINE_AA)  # fmt: skip
            bar[:] = label
        return picture
