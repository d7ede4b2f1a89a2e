"""The tracks that go along with a picture into another file: audio, subtitles, chapters.

Packets are copied where the new container takes their codec; audio is encoded again where it does not, or where its
samples are to be changed (a watermark), with its layout.
All stamps move by one shift, so that picture and sound stay together.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Protocol

from sorano.media.read import is_broadcast
from sorano.media.timing import SLACK_SECONDS, Continued, placed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

COPIED = {
    "mp4": ("aac", "mp3", "ac3", "eac3", "opus", "alac", "flac"),
    "matroska": ("aac", "mp3", "ac3", "eac3", "opus", "vorbis", "flac", "pcm_s16le"),
    "webm": ("opus", "vorbis"),
}
COPIED_TEXT = {"mp4": ("mov_text",), "matroska": ("subrip", "ass", "webvtt"), "webm": ("webvtt",)}
ENCODERS = {
    "mp4": "aac", "matroska": "aac", "webm": "libopus", "ipod": "aac", "mp3": "libmp3lame", "wav": "pcm_s16le",
    "flac": "flac",
}  # fmt: skip  # of each container; the last four hold audio alone
LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1", 8: "7.1"}  # that both encoders know
AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
MP3_RATES = (48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)
RATES = {"aac": AAC_RATES, "libopus": (48000,), "libmp3lame": MP3_RATES}  # that encoders know; the others know all
CHANGED_BIT_RATE = 128_000  # a channel and second, where samples were changed: coding again costs nothing that is heard


class ChangesAudio(Protocol):
    """What changes the samples of a track, piece by piece: `sorano.trust.watermark.audio.AudioMarker`."""

    def __call__(self, samples_NC: NDArray[Any], /) -> NDArray[Any]:
        """The next samples [N, channels], -1..1; returns those that are finished."""

    def finish(self) -> NDArray[Any]:
        """Those that are left: as many in all as were given."""


AudioChange = Callable[[int, int], ChangesAudio]  # of so many samples a second and channels


def is_deep(codec: Any) -> bool:
    """Whether samples are stored without loss, in more than 16 bits."""
    is_whole = codec.name.startswith("pcm_") or codec.name in ("flac", "alac", "wavpack")
    return is_whole and codec.format is not None and codec.format.bytes > 2


class AudioTrack:
    """One audio track on its way into another file: `shift` seconds later there, from `start` on for `most` seconds."""

    def __init__(
        self,
        heard: Any,
        out: Any,
        kind: str,
        *,
        shift: float = 0.0,
        start: float = 0.0,
        most: float | None = None,
        change: AudioChange | None = None,
    ) -> None:
        self.heard, self.out, self.shift, self.start = heard, out, shift, start
        self.end = float("inf") if most is None else start + most
        self.said: str | None = None  # what is changed, in words
        codec = heard.codec_context
        name = codec.codec.canonical_name
        # A coarse time base (AVI: a packet's length) cannot say where sound in another container's packets lies.
        is_fine = bool(heard.time_base) and heard.time_base <= Fraction(1, 1000)
        self.is_copied = change is None and name in COPIED.get(kind, ()) and (is_fine or name == "mp3")
        self.count = 0  # samples that were taken
        self.sent = 0  # samples that were encoded
        self.change: ChangesAudio | None = None
        self.continued = Continued(is_broadcast(heard.container))
        self.last: int | None = None  # decoding time of the last packet that was copied
        if self.is_copied:
            self.stream = out.add_stream_from_template(heard)
        else:
            self._encoder(kind, codec)
            if change is not None:
                self.change = change(self.rate, self.channels)
                if ENCODERS[kind] in RATES:  # those that lose something
                    most = 320_000 if ENCODERS[kind] == "libmp3lame" else 512_000
                    self.stream.codec_context.bit_rate = min(most, CHANGED_BIT_RATE * self.channels)
            self.said = f"its audio ({name}) is coded again as {self.stream.codec_context.codec.canonical_name}"
            if self.layout != codec.layout.name and len(codec.layout.channels) != self.stream.codec_context.channels:
                self.said += f", its {codec.layout.name} channels as {self.layout}"
        self._carry_tags()

    def _encoder(self, kind: str, codec: Any) -> None:
        import av

        name = ENCODERS[kind]
        if name == "pcm_s16le" and is_deep(codec):
            name = "pcm_s24le"
        channels = max(1, len(codec.layout.channels))
        self.layout = LAYOUTS.get(channels, "7.1" if channels > 8 else "stereo")
        if name == "libmp3lame" and channels > 2:
            self.layout = "stereo"
        rates, rate = RATES.get(name), codec.sample_rate or 48000
        self.rate = rate if rates is None else next((one for one in rates if one <= rate), rates[-1])
        self.stream = self.out.add_stream(name, rate=self.rate, layout=self.layout)
        self.stream.codec_context.time_base = Fraction(1, self.rate)
        self.channels = self.stream.codec_context.channels
        # interleaved: PyAV's planes end at eight channels
        self.resampler = av.AudioResampler(format="flt", layout=self.layout, rate=self.rate)

    def _carry_tags(self) -> None:
        for name in ("language", "title", "handler_name"):
            if name in self.heard.metadata:
                self.stream.metadata[name] = self.heard.metadata[name]
        with suppress(AttributeError):
            self.stream.disposition = self.heard.disposition

    def pass_on(self, packet: Any) -> None:
        """One packet of it."""
        import av

        if not packet.size:
            return
        if self.is_copied:
            self._copy(packet)
            return
        with suppress(av.error.InvalidDataError):  # players pass over what cannot be decoded
            for frame in packet.decode():
                self._encode(frame)

    def _copy(self, packet: Any) -> None:
        if packet.dts is None or packet.pts is None:
            return
        unit = packet.time_base
        seconds = float((packet.duration or 0) * unit)
        begins = self.continued(float(packet.pts * unit), seconds) + self.shift
        if begins >= self.end or begins + seconds <= self.start - SLACK_SECONDS:
            return
        later = round((self.shift + self.continued.offset) / unit)
        packet.pts, packet.dts, packet.stream = packet.pts + later, packet.dts + later, self.stream
        if self.last is not None and packet.dts <= self.last:
            return  # told twice
        self.last = packet.dts
        self.out.mux(packet)

    def _encode(self, frame: Any) -> None:
        stamp = None
        if frame.pts is not None:
            stamp = self.continued(float(frame.pts * (frame.time_base or 0)), frame.samples / (frame.sample_rate or 1))
            stamp += self.shift - self.start
        frame.pts = None
        for piece in self.resampler.resample(frame):
            self._put(piece.to_ndarray().reshape(-1, self.channels), stamp)
            stamp = None

    def _put(self, samples: Any, stamp: float | None) -> None:
        """Samples [N, channels] that are heard `stamp` seconds after the start, None where they follow."""
        import numpy as np

        skipped, silent = placed(stamp, self.count, self.rate, len(samples))
        if stamp is not None and self.start + stamp >= self.end:
            return
        for at in range(0, silent, self.rate):
            self._send(np.zeros((min(self.rate, silent - at), self.channels), np.float32))
        samples = samples[skipped:]
        room = self.end - self.start - self.count / self.rate
        if room < float("inf"):
            samples = samples[: max(0, round(room * self.rate))]
        if len(samples):
            self._send(samples)

    def _send(self, samples: NDArray[np.float32]) -> None:
        self.count += len(samples)
        self._write(samples if self.change is None else self.change(samples))

    def _write(self, samples: NDArray[Any]) -> None:
        import av
        import numpy as np

        if not len(samples):
            return
        flat = np.ascontiguousarray(samples, np.float32).reshape(1, -1)
        made = av.AudioFrame.from_ndarray(flat, "flt", self.layout)
        made.sample_rate, made.time_base = self.rate, Fraction(1, self.rate)
        made.pts = self.sent + round(self.start * self.rate)
        self.sent += len(samples)
        self.out.mux(self.stream.encode(made))

    def close(self) -> None:
        """What the resampler and the encoder still hold."""
        if self.is_copied:
            return
        for piece in self.resampler.resample(None):
            self._put(piece.to_ndarray().reshape(-1, self.channels), None)
        if self.change is not None:
            self._write(self.change.finish())
        self.out.mux(self.stream.encode())


class TextTrack:
    """One subtitle track, copied."""

    def __init__(self, given: Any, out: Any, *, shift: float = 0.0) -> None:
        self.out, self.shift = out, shift
        self.stream = out.add_stream_from_template(given)
        for name in ("language", "title", "handler_name"):
            if name in given.metadata:
                self.stream.metadata[name] = given.metadata[name]
        with suppress(AttributeError):
            self.stream.disposition = given.disposition

    def pass_on(self, packet: Any) -> None:
        """One packet of it."""
        if not packet.size or packet.pts is None:
            return
        later = round(self.shift / packet.time_base)
        packet.pts, packet.stream = packet.pts + later, self.stream
        packet.dts = packet.pts
        self.out.mux(packet)

    def close(self) -> None:
        """Nothing is held."""


class Tracks:
    """Everything beside the picture on its way into another file, and in words what does not come along as it was.

    `change` changes the samples of the audio tracks, each with one of its own.
    """

    def __init__(self, given: Any, out: Any, kind: str, *, shift: float, change: AudioChange | None = None) -> None:
        self.by_index: dict[int, AudioTrack | TextTrack] = {}
        self.said: list[str] = []  # what is coded again
        self.lost: list[str] = []  # what is left out
        for stream in given.streams.audio:
            if stream.codec_context is None:
                self.lost.append("an audio track in a code that is not known here is left out")
                continue
            track = AudioTrack(stream, out, kind, shift=shift, change=change)
            self.by_index[stream.index] = track
            if track.said and track.said not in self.said:
                self.said.append(track.said)
        for stream in given.streams.subtitles:
            name = stream.codec_context.codec.canonical_name if stream.codec_context is not None else "unknown"
            if name in COPIED_TEXT[kind]:
                self.by_index[stream.index] = TextTrack(stream, out, shift=shift)
            else:
                self.lost.append(f"a subtitle track ({name}) is left out")
        self.streams = [given.streams[index] for index in self.by_index]

    def pass_on(self, packet: Any) -> None:
        """One packet of any of them."""
        self.by_index[packet.stream.index].pass_on(packet)

    def close(self) -> None:
        """What encoders still hold."""
        for track in self.by_index.values():
            track.close()


def carry_chapters(given: Any, out: Any, shift: float) -> None:
    """The chapters of a file, in another, `shift` seconds later; before its header is written."""
    moved = []
    for chapter in given.chapters():
        unit = chapter["time_base"]
        if not unit:
            continue
        later = round(shift / unit)
        begin, end = max(0, chapter["start"] + later), max(0, chapter["end"] + later)
        if end > begin:
            moved.append({**chapter, "start": begin, "end": end})
    if moved:
        out.set_chapters(moved)
