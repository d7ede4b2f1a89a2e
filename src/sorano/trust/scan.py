"""One pass over a file's frames and sound, in constant memory: what a mark, a fingerprint and indicators are read from.

    scan = FileScan(media.probe(path))
    scan.watch(notes, damaged=False)
    mark, detection, key = scan.mark(carriers, notes)

Not covered: files without pictures, of which only the sound is heard (`hear`); what is not decoded for want of time.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sorano.errors import TrustError, VideoError
from sorano.trust import sandbox
from sorano.trust.copies import lookup
from sorano.trust.provenance import keys
from sorano.trust.watermark.marks import DetectedAudioMark, DetectedMark

if TYPE_CHECKING:
    from sorano.trust import media as media_module
    from sorano.trust.watermark.audio import AudioDetector

MOST_FRAMES, MOST_PICTURES = 1 << 18, 1 << 14  # hashes and finer pictures that are held of a copy
LEAST_SECONDS_LEFT = 8.0  # of the child: a search ends before; one more candidate and the rest take this
MOST_AHEAD = 3  # frames that are decoded before they are looked at
MOST_SEARCHED = (
    1  # private carriers that are also looked for in cut and scaled pictures: that of --bundle, or the newest
)


class FileScan:
    """What a single pass over the frames remembers, in constant memory.

    Without `compares` no fingerprint is taken: where a credential is, there is nothing to compare with.
    """

    def __init__(self, found: media_module.InspectedMedia, *, compares: bool = True) -> None:
        from sorano.trust.watermark import search

        self.found = found
        self.compares = compares
        self.fps = found.fps if found.fps > 0 else 25.0
        self.fingerprinter = self._taker()
        self.kept = search.Kept()
        self.count = 0
        self.complete = True  # whether all of the file was seen
        self.seconds = 0.0  # of what a child has, that a pass over the frames takes
        self.brief = 0  # frames that are shown for less than a screen's refresh
        self.audio: AudioDetector | None = None  # what was heard

    def _taker(self) -> Any:
        """What takes a fingerprint for comparing: of every frame."""
        from sorano.trust.copies import fingerprint

        return fingerprint.FingerprintBuilder(
            self.fps,
            still=self.found.is_image and not self.found.is_animated,
            picture_seconds=0,
            most_pictures=MOST_PICTURES,
            most_frames=MOST_FRAMES,
        )

    def watch(self, notes: list[str], *, damaged: bool) -> None:
        """All frames. Raises VideoError where none can be decoded, unless the file is known to be `damaged`."""
        from sorano.trust import media

        left = sandbox.time_left()
        try:
            for picture in ahead(media.pictures_of(self.found)):
                self.add_picture(picture)
        except VideoError as error:
            if not self.count and not damaged:
                raise
            self.complete = False
            notes.append(error.message)
        if left < math.inf:
            self.seconds = left - sandbox.time_left()

    def add(self, shown: media_module.Shown) -> None:
        """The next frames."""
        from sorano.trust import media

        for frame, start, end in zip(shown.frames_THWC, shown.starts_T.tolist(), shown.ends_T.tolist(), strict=True):
            self.add_picture(media.Picture(frame, start, end))

    def add_picture(self, picture: media_module.Picture) -> None:
        """The next frame."""
        if self.compares:
            self.fingerprinter.add(picture.frame_HWC[None], [picture.start], picture.end)
        self.kept.add(picture.frame_HWC)
        self.count += 1
        self.brief += (picture.end - picture.start < lookup.BRIEF_SECONDS) and not self.found.is_image

    def look_within(self, box: tuple[int, int, int, int]) -> tuple[Any, Any]:
        """The fingerprint of a part of the picture (a box in pixels of a kept frame), with the file's sound, and where
        that part lies in what. The file is decoded once more.
        """
        from sorano.trust.copies import surround

        pixels = min(self.kept.size) / min(self.kept.frames[0].shape)
        bottom, right = self.kept.size
        most = (bottom, right, bottom, right)
        ends = [min(round(edge * pixels), last) for edge, last in zip(box, most, strict=True)]
        fingerprinter = self._taker()
        seen, place = surround.look_within(
            self._again(), self.kept.size, (ends[0], ends[1], ends[2], ends[3]), fingerprinter
        )
        return replace(seen, sound=self.fingerprinter.sound), place

    def _again(self) -> Iterator[media_module.Picture]:
        """All frames once more, as far as they can be decoded: that they cannot all be was said the first time."""
        from sorano.trust import media

        with suppress(VideoError):
            yield from ahead(media.pictures_of(self.found))

    @contextmanager
    def listening(self, notes: list[str]) -> Iterator[None]:
        """Listen in a thread beside what is done inside: when that is over, all was heard."""
        with ThreadPoolExecutor(1, thread_name_prefix="listen") as pool:
            heard = pool.submit(self.listen)
            try:
                yield
            finally:
                notes += heard.result()

    def listen(self) -> list[str]:
        """The audio, for the fingerprint and its mark; nothing is known of it where it cannot be decoded: a note."""
        from sorano.trust import media
        from sorano.trust.watermark.audio import AudioDetector

        notes: list[str] = []
        detector = AudioDetector(media.AUDIO_RATE)
        with noting(notes):
            self.fingerprinter.listen(detector.passing(media.sound(self.found, media.AUDIO_RATE)))
            self.audio = detector
        return notes

    def audio_mark(self, carriers: Sequence[keys.WatermarkKey]) -> DetectedAudioMark | None:
        """The mark in what was heard."""
        return None if self.audio is None else read_audio_mark(self.audio, carriers)

    def mark(
        self, carriers: Sequence[keys.WatermarkKey], notes: list[str] | None = None, *, thorough: bool = True
    ) -> tuple[DetectedMark | None, Any, bytes]:
        """The mark under the first key that finds one: all keys as if nothing were cut, then a search with a few.

        A search that would take the time that is left ends, and a note says so: what was seen still counts.
        """
        from sorano.trust.watermark import detect, payload

        def has_time() -> bool:
            return sandbox.time_left() > LEAST_SECONDS_LEFT

        tried: list[keys.WatermarkKey | None] = [None, *carriers]
        rounds = [(tried, False)] + ([(tried[: 1 + MOST_SEARCHED], True)] if thorough else [])
        for some, search in rounds:
            for carrier in some:
                key = payload.PUBLIC_KEY if carrier is None else carrier.key
                detection = detect.read(
                    self.kept, fps=self.fps, key=key, thorough=search, again=search, has_time=has_time
                )
                if detection is not None:
                    return seen_mark(detection, carrier), detection, key
        if thorough and notes is not None and not has_time():
            notes.append("the search for a mark ended for want of time; SORANO_LOOK_SECONDS gives it more")
        return None, None, payload.PUBLIC_KEY


def hear(pieces: Iterable[Any], carriers: Sequence[keys.WatermarkKey], notes: list[str]) -> DetectedAudioMark | None:
    """The mark in audio [N], mono at `media.AUDIO_RATE`; a note says where it cannot be decoded to its end."""
    from sorano.trust import media
    from sorano.trust.watermark.audio import AudioDetector

    detector = AudioDetector(media.AUDIO_RATE)
    with noting(notes):
        deque(detector.passing(pieces), maxlen=0)
    return read_audio_mark(detector, carriers)


@contextmanager
def noting(notes: list[str]) -> Iterator[None]:
    """What cannot be decoded or compared inside becomes a note."""
    try:
        yield
    except (TrustError, VideoError) as error:
        notes.append(error.message)


def read_audio_mark(detector: AudioDetector, carriers: Sequence[keys.WatermarkKey]) -> DetectedAudioMark | None:
    """The mark in what was heard, under the public key or the first of the private ones that reads one."""
    from sorano.trust.watermark import payload

    for carrier in (None, *carriers):
        detection = detector.detect(payload.PUBLIC_KEY if carrier is None else carrier.key)
        if detection is not None:
            who = None if carrier is None else carrier.id
            return DetectedAudioMark(detection.payload, round(detection.confidence, 1), who)
    return None


def ahead(pictures: Iterator[media_module.Picture]) -> Iterator[media_module.Picture]:
    """The same pictures; a thread decodes the next few meanwhile. Raises what decoding raises, in its place."""
    pool = ThreadPoolExecutor(1, thread_name_prefix="decode")
    try:
        coming = deque(pool.submit(next, pictures, None) for _ in range(MOST_AHEAD))
        while (one := coming.popleft().result()) is not None:
            coming.append(pool.submit(next, pictures, None))
            yield one
    finally:
        pool.shutdown(cancel_futures=True)


def seen_mark(detection: Any, carrier: keys.WatermarkKey | None) -> DetectedMark | None:
    """A detection in a report's words."""
    if detection is None:
        return None
    payload = detection.payload
    own, commitment = (carrier.id, carrier.commitment) if carrier is not None else (None, None)
    slots = (detection.slots_read, detection.slots)
    return DetectedMark(payload.kind, payload.id, round(float(detection.confidence), 1), own, commitment, slots)
