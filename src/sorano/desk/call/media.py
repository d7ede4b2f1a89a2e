"""The pictures and sound of calls over WebRTC (aiortc, the extra `call`): what is sent is judged here and passed on.

Each sender has one connection, and each viewer one for each tile that it shows, so that nothing is negotiated twice.
Encoded frames carry a trailer

    payload || counter (8 bytes, big-endian) || tag (16 bytes) || "SRF1"
    tag = HMAC-SHA256(frame key, "sorano frame 1" || counter || payload)[:16]      of sound: "sorano sound 1"

that the sender's page appends (WebRTC encoded transform) and that is checked before decoding: whoever sits between
the sender's coder and the desk cannot change a frame. VP8 decoders ignore what follows a frame, so a viewer without a
transform still sees it. What is passed on is coded again: behind the desk only the marks remain.

Covered: one machine, or a network without address translation (no STUN or TURN server is asked).
Not covered: SFUs of other makers; simulcast.
"""

from __future__ import annotations

import asyncio
import hmac
import itertools
import struct
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sorano.desk.call.faces import finder
from sorano.desk.call.guard import MOST_TILES, CallGuard, Room, Tile
from sorano.extras import install
from sorano.web.logs import log
from sorano.web.problems import Problem

MAGIC, LABELS = b"SRF1", {"video": b"sorano frame 1", "audio": b"sorano sound 1"}
TRAILER = 8 + 16 + len(MAGIC)
MOST_PIXELS = 1280 * 720
TICK_SECONDS = 0.25
JUDGED_FPS = 15.0  # at most, of each tile
MOST_CONNECTIONS = MOST_TILES * (1 + (MOST_TILES - 1) + MOST_TILES)  # of a room: who sends, watches, and records
FACE_EVERY = 15  # judged frames
MIDDLE = (0.35, 0.25, 0.65, 0.8)  # where a face usually is: left, top, right, bottom


def seal_frame(frame_key: bytes, counter: int, payload: bytes, kind: str = "video") -> bytes:
    """An encoded frame, of video or audio, with its trailer."""
    number = struct.pack(">Q", counter)
    tag = hmac.digest(frame_key, LABELS[kind] + number + payload, "sha256")[:16]
    return payload + number + tag + MAGIC


def open_frame(frame_key: bytes, sealed: bytes, last: int, kind: str = "video") -> tuple[bytes, int] | None:
    """The frame and its counter; None where the trailer is missing or wrong, or the counter did not rise."""
    if len(sealed) < TRAILER or sealed[-len(MAGIC) :] != MAGIC:
        return None
    payload, number, tag = sealed[:-TRAILER], sealed[-TRAILER : 8 - TRAILER], sealed[8 - TRAILER : -len(MAGIC)]
    counter = struct.unpack(">Q", number)[0]
    right = hmac.digest(frame_key, LABELS[kind] + number + payload, "sha256")[:16]
    return (payload, counter) if hmac.compare_digest(tag, right) and counter > last else None


def middle_colour(rgb_HWC: NDArray[np.uint8], box: tuple[float, float, float, float] = MIDDLE) -> NDArray[np.float32]:
    """The mean R, G, B of a box of a tile (left, top, right, bottom in 0..1): where a face is, or usually is."""
    height, width = rgb_HWC.shape[:2]
    left, top, right, bottom = box
    part = rgb_HWC[round(top * height) : round(bottom * height), round(left * width) : round(right * width)]
    return np.asarray(part.reshape(-1, 3).mean(0), np.float32)


class FrameQueue:
    """The queue between aiortc's jitter buffer and its decoder, which lets only authentic frames through."""

    def __init__(self, inner: Any, guard: CallGuard, tile: Tile, kind: str = "video") -> None:
        self.inner, self.guard, self.tile, self.kind, self.last = inner, guard, tile, kind, -1
        self.key = tile.chain.frame_key if tile.chain is not None else None

    def put(self, task: Any) -> None:
        """Pass on what the decoder is to do: None ends it, else (codec, encoded frame)."""
        if task is not None and self.tile.left:
            return
        if task is not None and self.key is not None:
            data = bytes(task[1].data)
            has_trailer = data.endswith(MAGIC)
            opened = open_frame(self.key, data, self.last, self.kind) if has_trailer else None
            if not self.guard.check_frame(self.tile, (opened is not None) if has_trailer else None):
                return
            if opened is not None:
                task[1].data, self.last = opened
        self.inner.put(task)

    def get(self, *args: Any, **words: Any) -> Any:
        """What the decoder takes next."""
        return self.inner.get(*args, **words)


class CallMedia:
    """The connections of all rooms of one desk. Everything but `see` happens on one event loop."""

    def __init__(self, guard: CallGuard) -> None:
        self.guard = guard
        self._tracks: dict[tuple[str, str], Any] = {}  # of each tile that sends, by kind
        self._connections: dict[str, set[Any]] = {}  # of each room
        self._tasks: set[asyncio.Task[Any]] = set()
        self._pool = ThreadPoolExecutor(2, "call-judge")
        self._relay: Any = None
        self._ticker: asyncio.Task[Any] | None = None

    async def send(self, room: Room, tile: Tile, sdp: str) -> str:
        """Take a sender's offer; the answer. Raises `Problem` for an offer that cannot be taken."""
        connection = self._connection(room)

        def came(track: Any) -> None:
            self._tracks[tile.id, track.kind] = track
            is_video = track.kind == "video"
            follow = self._judge if is_video else self._listen
            self._start(follow(room, tile, self._relay.subscribe(track, buffered=not is_video)))

        connection.on("track", came)
        await self._take(connection, sdp)
        for transceiver in connection.getTransceivers():
            if transceiver.kind == "video":
                prefer_vp8(transceiver)
            guard_frames(transceiver.receiver, self.guard, tile, transceiver.kind)
        return await self._answer(connection)

    async def watch(self, room: Room, tile: Tile, sdp: str) -> str:
        """Take the offer of somebody who wants to see a tile; the answer. Raises `Problem`."""
        track, sound = (self._tracks.get((tile.id, kind)) for kind in LABELS)
        if track is None or track.readyState != "live":
            raise Problem("not_ready", "this tile sends no pictures yet", "ask again in a second")
        connection = self._connection(room)
        await self._take(connection, sdp)
        connection.addTrack(self._relay.subscribe(track, buffered=False))
        for transceiver in connection.getTransceivers():
            if transceiver.kind == "video":
                prefer_vp8(transceiver)
            elif sound is not None and sound.readyState == "live":
                transceiver.sender.replaceTrack(self._relay.subscribe(sound))
                transceiver.direction = "sendonly"
        return await self._answer(connection)

    def start(self) -> None:
        """Begin to judge what comes."""
        if self._ticker is None:
            self._ticker = asyncio.get_running_loop().create_task(self._tick_on())

    async def close(self) -> None:
        """End every connection."""
        for task in [*self._tasks, *([self._ticker] if self._ticker else [])]:
            task.cancel()
        held = [one for connections in self._connections.values() for one in connections]
        await asyncio.gather(*(one.close() for one in held), return_exceptions=True)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _connection(self, room: Room) -> Any:
        rtc = require_aiortc()
        from aiortc.contrib.media import MediaRelay

        self._relay = self._relay or MediaRelay()
        self.start()
        held = self._connections.setdefault(room.id, set())
        if len(held) >= MOST_CONNECTIONS:
            raise Problem("queue_full", f"a call has {MOST_CONNECTIONS} connections", "close a page", retry_after=30)
        connection = rtc.RTCPeerConnection(rtc.RTCConfiguration(iceServers=[]))
        held.add(connection)

        async def changed() -> None:
            if connection.connectionState in ("failed", "closed"):
                held.discard(connection)
                if not held and self._connections.get(room.id) is held:
                    del self._connections[room.id]
                await connection.close()

        connection.on("connectionstatechange", changed)
        return connection

    @staticmethod
    async def _take(connection: Any, sdp: str) -> None:
        rtc = require_aiortc()
        try:
            await connection.setRemoteDescription(rtc.RTCSessionDescription(sdp, "offer"))
        except Exception as error:  # aiortc raises whatever its parser meets in a text that others wrote
            await connection.close()
            log("offer refused", error=type(error).__name__)
            raise Problem(
                "invalid_value", "sdp is no offer that can be taken", "offer VP8 video", param="sdp"
            ) from error

    async def _answer(self, connection: Any) -> str:
        if self.guard.desk.settings.calls_on_loopback:
            stay_on_loopback(connection)
        await connection.setLocalDescription(await connection.createAnswer())
        return str(connection.localDescription.sdp)

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _judge(self, room: Room, tile: Tile, track: Any) -> None:
        """Hand a tile's frames to the guard until it ends."""
        from aiortc.mediastreams import MediaStreamError

        loop = asyncio.get_running_loop()
        due = 0.0
        try:
            while not tile.left:
                frame = await track.recv()
                if frame.width * frame.height > MOST_PIXELS:
                    log("frames too large", level="warning", width=frame.width, height=frame.height)
                    break
                if loop.time() >= due:
                    due = loop.time() + 0.8 / JUDGED_FPS
                    await loop.run_in_executor(self._pool, self._see, room, tile, frame)
        except MediaStreamError:
            pass
        finally:
            self._tracks.pop((tile.id, "video"), None)

    async def _listen(self, room: Room, tile: Tile, track: Any) -> None:
        """Hand a tile's sound to the guard until it ends."""
        from aiortc.mediastreams import MediaStreamError

        try:
            while not tile.left:
                frame = await track.recv()
                if tile.sound is not None:
                    self.guard.hear(room.id, tile.id, mono_of(frame), float(frame.pts * frame.time_base))
        except MediaStreamError:
            pass
        finally:
            self._tracks.pop((tile.id, "audio"), None)

    def _see(self, room: Room, tile: Tile, frame: Any) -> None:
        find = finder()
        wants_face = find is not None and tile.frames % FACE_EVERY == 0
        colour = None
        if wants_face or tile.challenge is not None:
            rgb = frame.to_ndarray(format="rgb24")
            if find is not None and wants_face:
                self.guard.face(tile, find(rgb))
            colour = middle_colour(rgb, tile.face or MIDDLE)
        self.guard.see(room.id, tile.id, luma_of(frame), colour)

    async def _tick_on(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await loop.run_in_executor(None, self.guard.tick)
            await asyncio.sleep(TICK_SECONDS)


def luma_of(frame: Any) -> NDArray[np.uint8]:
    """The luma of a decoded frame, uint8 [H, W]."""
    if frame.format.name not in ("yuv420p", "yuvj420p"):
        frame = frame.reformat(format="yuv420p")
    plane = frame.planes[0]
    rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
    return np.ascontiguousarray(rows[:, : plane.width])


def mono_of(frame: Any) -> NDArray[np.float32]:
    """The samples of a decoded frame of sound, 16 bits, channels side by side, as floats in -1..1."""
    samples = frame.to_ndarray().reshape(-1, frame.layout.nb_channels)
    return np.asarray(samples.mean(1, dtype=np.float32) / 32768, np.float32)


def guard_frames(receiver: Any, guard: CallGuard, tile: Tile, kind: str) -> None:
    """Put the check of MACs between a receiver's jitter buffer and its decoder (aiortc 1.16 has no hook for it)."""
    name = "_RTCRtpReceiver__decoder_queue"
    setattr(receiver, name, FrameQueue(getattr(receiver, name), guard, tile, kind))


def seal_frames(sender: Any, frame_key: bytes, kind: str = "video") -> None:
    """Append MACs to what an aiortc sender codes: VP8, or Opus for the kind audio."""
    from aiortc.codecs.opus import OpusEncoder
    from aiortc.codecs.vpx import Vp8Encoder

    encoder: Any = Vp8Encoder() if kind == "video" else OpusEncoder()
    packetize, encode, counter = getattr(encoder, "_packetize", None), encoder.encode, itertools.count()

    def sealed(payload: bytes) -> bytes:
        return seal_frame(frame_key, next(counter), payload, kind)

    def sealed_sound(frame: Any, force_keyframe: bool = False) -> Any:
        payloads, stamp = encode(frame, force_keyframe)
        return list(map(sealed, payloads)), stamp

    if packetize is None:
        encoder.encode = sealed_sound
    else:  # of a frame of pictures, before it is cut into packets
        encoder._packetize = lambda buffer, picture_id: packetize(sealed(buffer), picture_id)
    setattr(sender, "_RTCRtpSender__encoder", encoder)  # noqa: B010 - the name is not mangled here


def stay_on_loopback(connection: Any) -> None:
    """Have a connection use this machine's loopback address alone; before its local description is set."""
    for transceiver in connection.getTransceivers():
        ice = transceiver.receiver.transport.transport.iceGatherer._connection
        gather = ice.get_component_candidates

        def on_loopback(component: int, addresses: list[str], *given: Any, gather: Any = gather, **words: Any) -> Any:
            return gather(component, ["127.0.0.1"], *given, **words)

        ice.get_component_candidates = on_loopback


def prefer_vp8(transceiver: Any) -> None:
    """VP8 alone, so that what is measured is what is used."""
    from aiortc import RTCRtpSender

    codecs = RTCRtpSender.getCapabilities("video").codecs
    transceiver.setCodecPreferences([one for one in codecs if one.mimeType in ("video/VP8", "video/rtx")])


def require_aiortc() -> Any:
    """The package aiortc. Raises `Problem` where it is not installed."""
    try:
        import aiortc
    except ImportError as error:
        raise Problem("unsupported", "this desk has no aiortc for calls", install("call")) from error
    return aiortc
