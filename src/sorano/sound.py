"""The sound of a given video, carried along: copied where the new file can hold it, coded again where it cannot."""

from __future__ import annotations

from typing import Any

COPIED = {
    "mp4": ("aac", "mp3", "ac3", "eac3", "opus", "alac", "flac"),
    "matroska": ("aac", "mp3", "ac3", "eac3", "opus", "vorbis", "flac", "pcm_s16le"),
    "webm": ("opus", "vorbis"),
}


class Sound:
    """The first sound of an opened file, on its way into another, `seconds` later there and for `most` seconds."""

    def __init__(self, source: Any, out: Any, kind: str, *, seconds: float = 0.0, most: float | None = None) -> None:
        self.heard = source.streams.audio[0]
        self.out, self.seconds, self.most = out, seconds, most
        self.said: str | None = None  # what was changed, in words
        name = self.heard.codec_context.name
        self.again = name not in COPIED[kind]
        if not self.again:
            self.stream = out.add_stream_from_template(self.heard)
            return
        coder = "libopus" if kind == "webm" else "aac"
        self.said = f"its sound ({name}) is coded again as {coder}"
        rate = 48000 if kind == "webm" else min(48000, self.heard.codec_context.sample_rate or 48000)
        self.stream = out.add_stream(coder, rate=rate)

    def pass_on(self, packet: Any) -> None:
        """One packet of it."""
        if self.most is not None and packet.pts is not None and float(packet.pts * packet.time_base) >= self.most:
            return
        if not self.again:
            if packet.dts is not None:
                later = round(self.seconds / packet.time_base)
                packet.pts, packet.dts = packet.pts + later, packet.dts + later
                packet.stream = self.stream
                self.out.mux(packet)
            return
        for frame in packet.decode():
            if frame.pts is not None:
                frame.pts += round(self.seconds / frame.time_base)
            self.out.mux(self.stream.encode(frame))

    def close(self) -> None:
        """What a coder still holds."""
        if self.again:
            self.out.mux(self.stream.encode())
