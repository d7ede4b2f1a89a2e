"""A participant of a call as a program: joins over HTTP, marks and sends pictures and sound by aiortc, watches others.

For the demonstration, the tests and `sorano desk record`. It does what the page does in a browser.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sorano.desk.call.marks import LiveMarker, received_tile, thumb_of
from sorano.desk.call.media import prefer_vp8, require_aiortc, seal_frames, stay_on_loopback
from sorano.desk.call.sound import RATE, SoundMarker, received_cells
from sorano.desk.client import Person, Program, Send, call_api

Frames = Iterator[NDArray[np.uint8]]
Sound = Iterator[NDArray[np.float32]]  # blocks of 20 ms at 48 kHz
Swap = Callable[[float, NDArray[np.uint8]], NDArray[np.uint8]]
SwapSound = Callable[[float, NDArray[np.float32]], NDArray[np.float32]]


class CallClient:
    """One tile's program. `call` is how it reaches the desk's API."""

    def __init__(self, send: Send, room: str, joined: dict[str, Any]) -> None:
        self.http, self.room = _Token(send, joined["token"]), room
        self.tile: str = joined.get("tile", "")
        key = joined.get("frame_key")
        self.frame_key = base64.b64decode(key) if key else None
        self.marker = LiveMarker(self._sharp) if key else None
        self._sharp_tiles: dict[int, NDArray[Any]] = {}
        self._cells: dict[int, NDArray[Any]] = {}
        self._thumbs: dict[int, tuple[Any, int]] = {}  # of each slot: their sum, their number
        self._began = 0.0
        self.on_loopback: bool = joined.get("on_loopback", False)  # the call stays on this machine
        self._connections: list[Any] = []
        self._tasks: list[asyncio.Task[Any]] = []

    @classmethod
    def join(cls, person: Person, room: str) -> CallClient:
        """Join with a passkey. Raises `Refusal`."""
        options = person.call("POST", f"/rooms/{room}/ceremony", {})
        given = {"ceremony": options["ceremony"], "credential": person.device.get(options, person.origin)}
        return cls(person.send, room, person.call("POST", f"/rooms/{room}/join", given))

    @classmethod
    def join_guest(cls, send: Send, room: str, code: str, name: str) -> CallClient:
        """Join as a guest. Raises `Refusal`."""
        return cls(send, room, Program(send, "").call("POST", f"/rooms/{room}/guest", {"code": code, "name": name}))

    @classmethod
    def look_on(cls, program: Program, room: str) -> CallClient:
        """Look on, to record, with a key that guards. Raises `Refusal`."""
        return cls(program.send, room, program.call("POST", f"/rooms/{room}/record", {}))

    def shown(self) -> Any:
        """The room as this tile sees it."""
        return self.http.call("GET", f"/rooms/{self.room}")

    def bundles(self, after: int = 0) -> list[str]:
        """The signed bundles of disclosed keys after a time in ms."""
        return list(self.http.call("GET", f"/rooms/{self.room}/bundles?after={after}")["data"])

    def timeline(self) -> Any:
        """The room's signed timeline, parsed."""
        return self.http.call("GET", f"/rooms/{self.room}/timeline")

    def fetch_slots(self) -> None:
        """Ask for what the next seconds are marked with."""
        asked = time.monotonic()
        told = self.http.call("GET", f"/rooms/{self.room}/tiles/{self.tile}/slots")
        came = time.monotonic()
        self._began = (asked + came) / 2 - told["seconds"]
        self._sharp_tiles = {one["slot"]: received_tile(base64.b64decode(one["tile"])) for one in told["slots"]}
        self._cells = {one["slot"]: received_cells(base64.b64decode(one["cells"])) for one in told["slots"]}
        if self.marker is not None:
            self.marker.strength = told["strength"]

    async def send(
        self,
        frames: Frames,
        fps: float,
        swap: Swap | None = None,
        sound: Sound | None = None,
        swap_sound: SwapSound | None = None,
    ) -> None:
        """Send pictures, RGB, and sound until closed.

        `swap(seconds, frame)` and `swap_sound(seconds, block)` stand between the markers and the coders.
        """
        rtc = require_aiortc()
        if self.marker is not None:
            await asyncio.to_thread(self.fetch_slots)
            self._tasks.append(asyncio.create_task(self._keep_fetching()))
        connection = self._connection()
        sender = connection.addTrack(_track(self, frames, fps, swap))
        prefer_vp8(connection.getTransceivers()[0])
        if self.frame_key is not None:
            seal_frames(sender, self.frame_key)
        if sound is not None:
            sender = connection.addTrack(_sound_track(self, sound, swap_sound))
            if self.frame_key is not None:
                seal_frames(sender, self.frame_key, "audio")
        await self._offer(rtc, connection, self.tile, "send")

    async def watch(self, tile: str) -> Any:
        """The track of a tile's pictures. Raises `Refusal` while it sends none."""
        rtc = require_aiortc()
        connection = self._connection()
        transceiver = connection.addTransceiver("video", direction="recvonly")
        prefer_vp8(transceiver)
        try:
            await self._offer(rtc, connection, tile, "watch")
        except BaseException:  # whoever asks again makes another one
            self._connections.remove(connection)
            await connection.close()
            raise
        return transceiver.receiver.track

    async def close(self) -> None:
        """End the connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*(one.close() for one in self._connections), return_exceptions=True)

    def declare(self) -> None:
        """Say what the pictures of the slots that are over looked like."""
        now = int(time.monotonic() - self._began)
        over = {slot: self._thumbs.pop(slot) for slot in sorted(self._thumbs) if slot < now}
        if over:
            means = {slot: np.rint(total / count).astype(np.uint8).tobytes() for slot, (total, count) in over.items()}
            told = {str(slot): base64.b64encode(thumb).decode() for slot, thumb in list(means.items())[-8:]}
            self.http.call("POST", f"/rooms/{self.room}/tiles/{self.tile}/content", {"slots": told})

    def mark(self, frame: NDArray[np.uint8]) -> tuple[float, NDArray[np.uint8]]:
        """The time in the session, and the marked frame."""
        import cv2

        seconds = time.monotonic() - self._began
        if self.marker is None or int(seconds) not in self._sharp_tiles:
            return seconds, frame
        luma = np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2YUV_I420)[: frame.shape[0]], np.uint8)
        total, count = self._thumbs.get(int(seconds), (0.0, 0))
        self._thumbs[int(seconds)] = (total + thumb_of(luma), count + 1)
        return seconds, self.marker.on_rgb(frame, seconds)

    def sound_marker(self) -> SoundMarker | None:
        """A marker for sound that begins now; None for guests."""
        if self.marker is None:
            return None
        return SoundMarker(lambda slot: self._cells.get(slot), time.monotonic() - self._began)

    def _sharp(self, slot: int) -> NDArray[Any]:
        return self._sharp_tiles[slot]

    def _connection(self) -> Any:
        rtc = require_aiortc()
        connection = rtc.RTCPeerConnection(rtc.RTCConfiguration(iceServers=[]))
        self._connections.append(connection)
        return connection

    async def _offer(self, rtc: Any, connection: Any, tile: str, verb: str) -> None:
        offer = await connection.createOffer()
        if self.on_loopback:
            stay_on_loopback(connection)
        await connection.setLocalDescription(offer)
        path, body = f"/rooms/{self.room}/tiles/{tile}/{verb}", {"sdp": connection.localDescription.sdp}
        answer = await asyncio.to_thread(self.http.call, "POST", path, body)
        await connection.setRemoteDescription(rtc.RTCSessionDescription(answer["sdp"], "answer"))

    async def _keep_fetching(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            await asyncio.to_thread(self.fetch_slots)
            await asyncio.to_thread(self.declare)


class _Token(Program):
    """A program that speaks with a tile's token."""

    def call(self, method: str, path: str, body: Any = None) -> Any:
        return call_api(self.send, method, path, {"x-call-token": self.key}, body)[1]


def _track(client: CallClient, frames: Frames, fps: float, swap: Swap | None) -> Any:
    """A track that takes frames at a rate, and marks and swaps them."""
    import av
    from aiortc import MediaStreamTrack

    began, count = time.monotonic(), 0

    def make() -> Any:
        seconds, marked = client.mark(next(frames))
        shown = swap(seconds, marked) if swap else marked
        return av.VideoFrame.from_ndarray(shown, "rgb24").reformat(format="yuv420p")

    async def recv(_: Any) -> Any:
        nonlocal count
        count = max(count + 1, int((time.monotonic() - began) * fps))  # a slow machine drops frames
        await asyncio.sleep(max(0.0, began + count / fps - time.monotonic()))
        frame = await asyncio.to_thread(make)
        frame.pts, frame.time_base = round(count * 90_000 / fps), Fraction(1, 90_000)
        return frame

    return type("MarkedTrack", (MediaStreamTrack,), {"kind": "video", "recv": recv})()


def _sound_track(client: CallClient, sound: Sound, swap: SwapSound | None) -> Any:
    """A track that takes sound in blocks of 20 ms, and marks and swaps them. None is left out: late ones follow."""
    import av
    from aiortc import MediaStreamTrack

    marker = client.sound_marker()
    began, count, size = time.monotonic(), 0, RATE // 50
    ready = np.zeros(2 * size if marker else 0, np.float32)  # a marker is two steps late

    async def recv(_: Any) -> Any:
        nonlocal count, ready
        given = next(sound)
        ready = np.concatenate([ready, given if marker is None else marker(given[:, None])[:, 0]])
        block, ready = np.asarray(ready[:size], np.float32), ready[size:]
        block = swap(count * size / RATE, block) if swap else block
        await asyncio.sleep(max(0.0, began + count * size / RATE - time.monotonic()))
        samples = np.clip(np.rint(block * 32767), -32768, 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(samples[None], "s16", "mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE, count * size, Fraction(1, RATE)
        count += 1
        return frame

    return type("MarkedSound", (MediaStreamTrack,), {"kind": "audio", "recv": recv})()
