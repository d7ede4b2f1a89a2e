"""Verify where a video came from.

    report = verify("clip.mp4")       # a Report with a verdict and the evidence for it
    report.require()                  # raises unless VERIFIED

Five verdicts, never "real" and never "fake". VERIFIED: these bytes are under the signature of somebody who is trusted
here. MATCHED: the mark's id found a manifest of somebody who is trusted here, and all that is shown and heard matches
its fingerprint: a copy, as far as this can be seen. TAMPERED: it was changed after it was signed. SUSPICIOUS: nothing
vouches for it and something is odd. UNVERIFIED: all else; absence of proof is no proof of absence.

Covered: the signature, that it binds these bytes, the public mark and private ones whose keys are known here, copies
(`matching`), labels. Not covered: whether a trusted signer tells the truth, scenes that were staged or filmed from a
screen, marks that were destroyed, changes that leave no trace here; in a copy, what is smaller or shorter than
docs/trust.md says. The public mark can be forged by anyone: it is a hint.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sorano.errors import MatchedError, SuspiciousError, TamperedError, TrustError, UnverifiedError, VideoError
from sorano.trust import sandbox
from sorano.trust.copies import lookup
from sorano.trust.copies.lookup import Evidence, StoredMatch
from sorano.trust.indicators import Indicator, Trace, words
from sorano.trust.printable import printable_line
from sorano.trust.provenance import containers, credentials, keys, roots, store
from sorano.trust.watermark.marks import DetectedAudioMark, DetectedMark, audio_payload

if TYPE_CHECKING:
    from sorano.trust import media as media_module
    from sorano.trust.provenance.label import FoundLabel
    from sorano.trust.watermark.audio import AudioDetector
    from sorano.trust.watermark.tamper import TamperedRegion, TamperMap
    from sorano.video import Frames

MOST_FRAMES, MOST_PICTURES = 1 << 18, 1 << 14  # hashes and finer pictures that are held of a copy
LEAST_SECONDS_LEFT = 8.0  # of the child: a search ends before; one more candidate and the rest take this
MOST_AHEAD = 3  # frames that are decoded before they are looked at
MOST_PRIVATE_KEYS = 8  # private carriers that are tried on a file whose manifest names none
MOST_SEARCHED = 1  # of them that is also looked for in cut and scaled pictures: that of --bundle, else the newest
SUFFIXES = (
    ".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".png", ".jpg", ".jpeg", ".webp", ".gif", ".tif", ".tiff",
    ".avif", ".heic", ".wav", ".mp3", ".m4a", ".flac",
)  # fmt: skip  # what is looked for in a folder


class Verdict(StrEnum):
    """What can be said about a file, with the command's exit code."""

    VERIFIED = "VERIFIED"
    MATCHED = "MATCHED"
    TAMPERED = "TAMPERED"
    SUSPICIOUS = "SUSPICIOUS"
    UNVERIFIED = "UNVERIFIED"

    @property
    def exit_code(self) -> int:
        """0, 6, 7, 8 or 9."""
        return {"VERIFIED": 0, "TAMPERED": 6, "SUSPICIOUS": 7, "UNVERIFIED": 8, "MATCHED": 9}[self.value]


@dataclass(frozen=True)
class Observations:
    """Everything that was seen of a file; `judge` turns it into a report and sees nothing else."""

    path: str
    credential: credentials.Credential | None = None
    labels: tuple[FoundLabel, ...] = ()
    mark: DetectedMark | None = None
    audio_mark: DetectedAudioMark | None = None
    stored: tuple[StoredMatch, ...] = ()
    regions: tuple[TamperedRegion, ...] = ()
    indicators: tuple[Indicator, ...] = ()
    trace: Trace | None = None  # of foreign noise, where it was looked for
    map_checked: bool = False
    map_reach: float | None = None  # the smallest hole that the map would have found, of the frame; None: it cannot say
    beside: tuple[str, ...] = ()  # what else the file shows or says, or what of it was not seen: then it is no copy
    more: tuple[Evidence, ...] = ()  # evidence of others, shown as it is
    media: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """The verdict on a file, and the evidence for it."""

    path: str
    verdict: Verdict
    summary: str
    evidence: tuple[Evidence, ...]
    signer: str | None = None
    kind: str | None = None  # made, edited, captured: what the trusted signer says
    mark_id: str | None = None  # ten hexadecimal digits
    part: tuple[float, float, float] | None = None  # MATCHED: from, to, of how many seconds of what was signed
    box: tuple[float, float, float, float] | None = None  # of a larger picture, the part that a copy is: left, top ...
    regions: tuple[TamperedRegion, ...] = ()
    notes: tuple[str, ...] = ()
    media: dict[str, Any] = field(default_factory=dict)
    root: str | None = None  # the beginning of the fingerprint of the trusted root behind the signer
    signed_at: str | None = None  # where a time stamp says it

    def require(self, *accepted: Verdict) -> Report:
        """The report itself where it is VERIFIED, or of a verdict that is named as enough: `require(Verdict.MATCHED)`.

        Raises TamperedError, SuspiciousError, UnverifiedError or MatchedError.
        """
        errors = {
            Verdict.TAMPERED: TamperedError,
            Verdict.SUSPICIOUS: SuspiciousError,
            Verdict.UNVERIFIED: UnverifiedError,
            Verdict.MATCHED: MatchedError,
        }
        if self.verdict in errors and self.verdict not in accepted:
            step = next((one.next_step for one in self.evidence if one.next_step), None)
            raise errors[self.verdict](f"{self.path}: {self.verdict.value}: {self.summary}", step)
        return self

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON."""
        return {
            "path": self.path,
            "verdict": self.verdict.value,
            "summary": self.summary,
            "signer": self.signer,
            "kind": self.kind,
            "mark_id": self.mark_id,
            "part": self.part,
            "box": self.box,
            "regions": [one.__dict__ | {"box": list(one.box)} for one in self.regions],
            "evidence": [one.__dict__ for one in self.evidence],
            "notes": list(self.notes),
            "media": self.media,
            "root": self.root,
            "signed_at": self.signed_at,
        }

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> Report:
        """The reverse of `to_dict`."""
        words = {**found, "verdict": Verdict(found["verdict"]), "notes": tuple(found["notes"]), "regions": ()}
        words["evidence"] = tuple(Evidence(**one) for one in found["evidence"])
        for name in ("part", "box"):
            words[name] = None if found.get(name) is None else tuple(found[name])
        if found["regions"]:
            from sorano.trust.watermark.tamper import TamperedRegion

            words["regions"] = tuple(TamperedRegion(**{**one, "box": tuple(one["box"])}) for one in found["regions"])
        return cls(**words)

    def lines(self) -> list[str]:
        """The report for people."""
        out = [f"{self.verdict.value}  {self.path}", f"  {self.summary}"]
        for one in self.evidence:
            out.append(f"  {one.about}: {one.found}")
            out.append(f"    proves: {one.proves}")
            out.append(f"    does not prove: {one.does_not_prove}")
            if one.next_step:
                out.append(f"    next: {one.next_step}")
        return [printable_line(line) for line in out + [f"  note: {note}" for note in self.notes]]


def verify(
    path: str | Path, *, trust: str | Path | None = None, stores: Sequence[str | Path] = (), bundle: Path | None = None
) -> Report:
    """Where a file came from. `trust` is a PEM file of more roots, `stores` more folders of manifests, `bundle` a
    disclosed private carrier.

    The file is looked at in a child process with limits. Raises VideoError for a file that cannot be read at all or
    that passes the limits, TrustError for trust that cannot be read.
    """
    return examine(Path(path), trust=trust, stores=stores, bundle=bundle)[0]


def examine(
    path: Path,
    *,
    trust: str | Path | None = None,
    stores: Sequence[str | Path] = (),
    bundle: Path | None = None,
    with_map: bool = False,
    triage: bool = False,
) -> tuple[Report, TamperMap | None]:
    """The report on a file and, with `with_map`, its tamper map where one was made. The file is read in a child."""
    sandbox.require_regular(path)
    words = {
        "path": str(path),
        "trust": None if trust is None else str(trust),
        "stores": [str(folder) for folder in stores],
        "bundle": None if bundle is None else str(bundle),
        "with_map": with_map,
        "triage": triage,
    }
    found, arrays = sandbox.run("sorano.trust.verify:examine_here", words)
    report = Report.from_dict(found["report"])
    if found["times"] is None:
        return report, None
    from sorano.trust.watermark.tamper import TamperMap

    starts, ends = (tuple(times) for times in found["times"])
    return report, TamperMap(arrays["map_THW"], starts, ends, report.regions)


def examine_here(
    path: str, trust: str | None, stores: Sequence[str], bundle: str | None, with_map: bool, triage: bool = False
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What `examine` runs in the child: the report as JSON, the times of the map's windows, and the map."""
    private = None if bundle is None else Path(bundle)
    seen, shown = look(Path(path), trust=trust, stores=stores, bundle=private, with_map=with_map, triage=triage)
    found = {"report": judge(seen).to_dict(), "times": None}
    if shown is None or not with_map:
        return found, {}
    return {**found, "times": [list(shown.starts_s), list(shown.ends_s)]}, {"map_THW": shown.map_THW}


def look(
    path: Path,
    *,
    trust: str | Path | None = None,
    stores: Sequence[str | Path] = (),
    bundle: Path | None = None,
    with_map: bool = False,
    triage: bool = False,
) -> tuple[Observations, Any]:
    """Everything that can be seen of a file, and its tamper map (None where none was made), for a page to show.

    Where a signed fingerprint answers for what is shown, a map says less, and is made only on request (`with_map`).
    With `triage` a file that nothing at all vouches for is searched for regions with foreign noise.
    """
    from sorano.trust import media

    anchors = roots.anchors(Path(trust) if trust is not None else None)
    notes: list[str] = []
    # (1) The bytes: does a credential bind them?
    try:
        found = media.probe(path)
    except VideoError as error:
        return _look_at_bytes(path, anchors, error, bundle), None
    credential = credentials.read(path, anchors)
    labels = _labels(path, notes)
    carriers = _carriers(credential, bundle, anchors)
    # (2) The frames: one pass for the mark, the fingerprint and the indicators.
    scan = FileScan(found, compares=credential is None)
    with scan.listening(notes) if credential is None else nullcontext():
        scan.watch(notes, damaged=credential is not None and credential.state in ("changed", "broken"))
        mark, detection, key = scan.mark(carriers, notes, thorough=credential is None)
    # (3) The manifest that the mark's id finds, for a copy that lost its own.
    stored: list[StoredMatch] = []
    if credential is None and mark is not None:
        stored = _stored(scan, mark, detection, [Path(folder) for folder in stores], anchors, notes)
    # (4) Holes in the mark, where no signature vouches for every byte and no signed fingerprint answers.
    bound = credential is not None and credential.state in credentials.WHOLE
    answered = lookup.answers(lookup.likeliest(stored, mark))
    is_checked = detection is not None and not bound and not found.is_image and (with_map or not answered)
    shown = _holes(found, detection, key) if is_checked else None
    # (5) What is odd, where nothing at all vouches for it.
    is_bare = credential is None and mark is None
    seen = Observations(
        path=str(path),
        credential=credential,
        labels=labels,
        mark=mark,
        audio_mark=scan.audio_mark(carriers),
        stored=tuple(stored),
        regions=() if shown is None else shown.regions,
        indicators=_odd(found, scan, labels, notes) if is_bare and not found.is_image else (),
        trace=_trace(found, scan.count) if triage and is_bare else None,
        map_checked=shown is not None,
        map_reach=None if shown is None else shown.reach,
        beside=_beside(found, scan) if stored else (),
        media=_facts(found),
        notes=tuple(notes),
    )
    return seen, shown


def _stored(
    scan: FileScan, mark: DetectedMark, detection: Any, folders: list[Path], anchors: str, notes: list[str]
) -> list[StoredMatch]:
    """The manifests that a mark's id finds, compared with what was seen and is heard now."""
    found = lookup.find(mark, folders, anchors, scan.fingerprinter.stored(), notes, detection)
    stored = _within(scan, mark, detection, found)
    return stored if scan.complete else [lookup.incomplete(one) for one in stored]


def _within(scan: FileScan, mark: DetectedMark, detection: Any, stored: list[StoredMatch]) -> list[StoredMatch]:
    """The same manifests; the first that vouches and does not match all of the picture is compared with the part of it
    in which the mark says that the signed video lies, if it does.
    """
    from sorano.trust.copies import fingerprint, matching, surround

    number = next((n for n, one in enumerate(stored) if one.match is not None and lookup.vouches(one, mark)), None)
    one = None if number is None else stored[number]
    if number is None or one is None or one.match is None or one.match.same or one.credential.fingerprint is None:
        return stored
    signed = fingerprint.from_bytes(one.credential.fingerprint)
    box = surround.place_of(scan.kept, detection, signed)
    if (
        box is None
        or signed.still != scan.fingerprinter.still
        or sandbox.time_left() < LEAST_SECONDS_LEFT + scan.seconds
    ):
        return stored
    seen, place = scan.look_within(box)
    match = matching.match(signed, seen, (1 / surround.crop_of(box, detection, signed), detection.flipped))
    if match.state == "other":
        return stored
    return [*stored[:number], replace(one, match=match, place=place), *stored[number + 1 :]]


def _facts(found: media_module.InspectedMedia) -> dict[str, Any]:
    """What a report says of the file itself."""
    return {
        "size": f"{found.width}x{found.height}",
        "fps": round(found.fps, 3),
        "seconds": found.seconds,
        "codec": found.codec,
        "container": found.container.name,
    }


def _look_at_bytes(path: Path, anchors: str, error: VideoError, bundle: Path | None) -> Observations:
    """What can be seen of a file without pictures that can be decoded: its credential, its labels, its audio's mark.

    Raises `error` again where it should have pictures and nothing else vouches for it.
    """
    from sorano.trust import media

    if not path.is_file() or path.stat().st_size == 0:
        raise error
    container = containers.sniff(path)
    credential = credentials.read(path, anchors)
    is_audio = media.is_audio_file(path)
    if credential is None and not is_audio and (container.has_pictures or not container.readable):
        raise error
    said = "there are no pictures in it in which a mark could be"
    notes = [said if is_audio or not container.has_pictures else error.message]
    labels = _labels(path, notes)
    carriers = _carriers(credential, bundle, anchors)
    heard = hear(media.audio_alone(path, media.AUDIO_RATE), carriers, notes) if is_audio else None
    facts = {"container": container.name}
    return Observations(
        path=str(path), credential=credential, labels=labels, audio_mark=heard, media=facts, notes=tuple(notes)
    )


def _labels(path: Path, notes: list[str]) -> tuple[FoundLabel, ...]:
    """The labels in a file; a note where its structure cannot be read (stray bytes: the credential knows more)."""
    from sorano.trust.provenance import label

    try:
        return tuple(label.read(path))
    except VideoError as error:
        notes.append(f"its metadata cannot be read: {error.message}")
        return ()


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


def _beside(found: media_module.InspectedMedia, scan: FileScan) -> tuple[str, ...]:
    """Why what was compared may not be all that players show."""
    try:
        return lookup.beside(found, lookup.opaque(found), scan.complete and scan.fingerprinter.stride == 1, scan.brief)
    except VideoError as error:
        return (error.message,)


def seen_mark(detection: Any, carrier: keys.WatermarkKey | None) -> DetectedMark | None:
    """A detection in a report's words."""
    if detection is None:
        return None
    payload = detection.payload
    own, commitment = (carrier.id, carrier.commitment) if carrier is not None else (None, None)
    slots = (detection.slots_read, detection.slots)
    return DetectedMark(payload.kind, payload.id, round(float(detection.confidence), 1), own, commitment, slots)


def _carriers(credential: credentials.Credential | None, bundle: Path | None, anchors: str) -> list[keys.WatermarkKey]:
    """The private carriers to try: the one that the manifest names, or those that are known here."""
    known = []
    if bundle is not None:
        known.append(roots.read_bundle(roots.read_text(bundle), str(bundle), anchors)[0])
    known += keys.carriers() + roots.disclosed_carriers()
    if credential is not None and credential.carrier_id is not None:
        return [one for one in known if one.id == credential.carrier_id and one.commitment == credential.commitment][:1]
    if credential is not None and credential.signature_holds:
        return []  # it says that its mark is public, or has none
    return known[:MOST_PRIVATE_KEYS]


def _holes(found: media_module.InspectedMedia, detection: Any, key: bytes) -> TamperMap:
    """The tamper map. Frames of another size, in a stream that changes it, are scaled to the mark's."""
    import cv2
    import numpy as np

    from sorano.trust import media
    from sorano.trust.watermark import tamper

    def scaled(frames_THWC: Frames) -> Frames:
        if frames_THWC.shape[1:3] == detection.size:
            return frames_THWC
        size = detection.size[::-1]
        return np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames_THWC])

    return tamper.tamper_map((scaled(part.frames_THWC) for part in media.shown(found)), detection, key)


def _odd(
    found: media_module.InspectedMedia, scan: FileScan, labels: Sequence[FoundLabel], notes: list[str]
) -> tuple[Indicator, ...]:
    from sorano.trust import indicators
    from sorano.trust.copies import fingerprint

    odd = indicators.of_frames(fingerprint.thumbs_of(scan.fingerprinter.stored())) + indicators.of_metadata(
        found.tags, bool(labels)
    )
    try:
        odd += indicators.of_stream(found.path)
    except VideoError as error:
        notes.append(error.message)
    return tuple(odd)


def _trace(found: media_module.InspectedMedia, count: int) -> Trace | None:
    """The trace of a splice in a few frames, spread over all of them; of those that are as large as the first."""
    from sorano.trust import media, triage

    step = max(1, count // triage.MOST_FRAMES)
    held = [one.frame_HWC for number, one in enumerate(media.pictures_of(found)) if number % step == 0]
    like = [frame for frame in held if frame.shape == held[0].shape]
    return triage.trace_of(like[: triage.MOST_FRAMES])


# The verdict.


def judge(seen: Observations) -> Report:
    """The report that follows from what was seen: no file is opened here."""
    credential = seen.credential
    copied = lookup.likeliest(seen.stored, seen.mark)
    conclusion = _conclude(seen, copied)
    mark_id = seen.mark.id if seen.mark is not None else credential.mark_id if credential is not None else None
    return Report(
        path=seen.path,
        verdict=conclusion.verdict,
        summary=printable_line(conclusion.summary),
        evidence=tuple(Evidence(*map(printable_line, vars(one).values())) for one in _evidence(seen)),
        signer=conclusion.signer,
        kind=conclusion.kind,
        mark_id=None if mark_id is None else store.name_of(mark_id),
        part=conclusion.part,
        box=None if copied is None or copied.place is None else copied.place.box,
        regions=(*_differing(copied), *seen.regions),
        notes=tuple(map(printable_line, seen.notes)),
        media=seen.media,
        root=None if credential is None else credential.root,
        signed_at=None if credential is None else credential.signed_at,
    )


@dataclass(frozen=True)
class Conclusion:
    """A verdict, the sentence that says why, and what a signer said, where one vouches."""

    verdict: Verdict
    summary: str
    signer: str | None = None
    kind: str | None = None
    part: tuple[float, float, float] | None = None  # of what was signed: from, to, of how many seconds


def _conclude(seen: Observations, copied: StoredMatch | None) -> Conclusion:
    """The verdict: a credential that fails or holds comes first, then a copy of what was signed, then holes in the
    mark, a signer who is not trusted, the mark alone, what is odd, and labels.
    """
    credential = seen.credential
    if credential is not None and credential.state in ("changed", "broken"):
        is_changed = credential.state == "changed"
        why = "it was changed after it was signed" if is_changed else "its credential is damaged"
        return Conclusion(Verdict.TAMPERED, why)
    if credential is not None and credential.state == "trusted":
        signer, kind = credential.signer, credential.kind
        return Conclusion(Verdict.VERIFIED, f"it is as {signer} signed it, {_says(kind)}", signer, kind)
    said = None if copied is None else lookup.verdict(copied, seen.beside, copied.credential.signer or "somebody")
    if copied is not None and said is not None:
        verdict, summary = Verdict(said[0]), said[1]
        if verdict is not Verdict.MATCHED:
            return Conclusion(verdict, summary)
        part = copied.match.part if copied.match else None
        return Conclusion(verdict, summary + _unread(seen.mark), copied.credential.signer, copied.credential.kind, part)
    if seen.regions:
        put_over = f"nothing trusted says where it is from, and {_put_over(seen.regions)}"
        return Conclusion(Verdict.SUSPICIOUS, put_over)
    if credential is None and seen.mark is None and seen.indicators:
        odd = words(seen.indicators)
        return Conclusion(Verdict.SUSPICIOUS, odd if seen.labels else f"nothing says where it is from, and {odd}")
    if seen.trace is not None and seen.trace.is_odd:
        return Conclusion(Verdict.SUSPICIOUS, f"nothing says where it is from, and {seen.trace.words}")
    return Conclusion(Verdict.UNVERIFIED, _why_unverified(seen))


def _why_unverified(seen: Observations) -> str:
    """What there is that nothing trusted confirms."""
    credential = seen.credential
    if credential is not None:
        who = credential.signer or "somebody"
        return {
            "ended": f"the certificate of {who} has ended and no time stamp says that it was signed before",
            "early": f"the certificate of {who} is not valid yet: a clock is wrong, here or there",
        }.get(credential.state, f"it is signed by {who}, who is not trusted here")
    if seen.mark is not None and seen.stored:
        return "its mark is that of another picture, or its signer is not trusted here"
    if seen.mark is not None:
        made = "made by AI, by Sorano" if seen.mark.kind == "made" else "recorded with Sorano"
        return f"it carries a mark that says {made}, and nothing that is trusted here confirms it"
    if seen.audio_mark is not None:
        return "its audio carries a mark of Sorano's, and nothing that is trusted here confirms it"
    if seen.labels:
        return f"a label that anyone can write says that it {seen.labels[0].says}"
    return "nothing that is trusted here says where it is from"


def _evidence(seen: Observations) -> list[Evidence]:
    """All that was found, in the order in which it weighs."""
    evidence: list[Evidence] = []
    credential = seen.credential
    if credential is not None:
        evidence.append(_of_credential(credential))
    evidence += seen.more
    if seen.mark is not None:
        evidence.append(_of_mark(seen.mark, credential))
    elif (
        credential is not None
        and credential.mark_id is not None
        and credential.state in ("trusted", "valid")
        and seen.audio_mark is None
    ):
        evidence.append(_of_lost_mark(credential))
    if seen.audio_mark is not None:
        evidence.append(_of_audio_mark(seen.audio_mark, seen.mark, credential))
    evidence += [lookup.evidence(one, seen.mark) for one in seen.stored]
    if seen.map_checked:
        evidence.append(_of_map(seen.regions, seen.map_reach))
    evidence += [_of_label(one) for one in seen.labels]
    if seen.indicators:
        evidence.append(_of_indicators(seen.indicators))
    if seen.trace is not None:
        evidence.append(_of_trace(seen.trace))
    return evidence or [
        Evidence(
            "provenance",
            "no credential, no mark and no label",
            "nothing",
            "that it is false: most files carry none, and many programs remove what there was",
            "ask the sender for the original file, or for who made it",
        )
    ]


def _unread(mark: DetectedMark | None) -> str:
    """That a copy's mark was not read everywhere: coarse coding does that, and so do pictures that were put in."""
    if mark is None or mark.slots is None or mark.slots[0] == mark.slots[1]:
        return ""
    return f"; the mark was read in {mark.slots[0]} of {mark.slots[1]} parts of two seconds"


def _put_over(regions: Sequence[TamperedRegion]) -> str:
    return f"something was put over the mark in {len(regions)} place{'s'[: len(regions) > 1]}"


def _differing(copied: StoredMatch | None) -> tuple[TamperedRegion, ...]:
    """Where a copy differs from what was signed, for the page."""
    from sorano.trust.watermark.tamper import TamperedRegion

    changes = () if copied is None or copied.match is None else copied.match.changes
    whole = (0.0, 0.0, 1.0, 1.0)
    place = None if copied is None else copied.place
    boxes = [one.box or whole if place is None else place.of_frame(one.box or whole) for one in changes]
    return tuple(
        TamperedRegion(one.start_s, one.end_s, box, one.score)
        for one, box in zip(changes, boxes, strict=True)
        if one.kind != "sound"
    )


def _says(kind: str | None) -> str:
    return f"who says: {credentials.KIND_WORDS[kind]}" if kind else "who does not say how it was made"


def _of_credential(found: credentials.Credential) -> Evidence:
    who = found.who
    if found.state == "changed":
        return Evidence(
            "credential",
            f"signed by {who}; the bytes are not those that were signed ({found.problems[-1][1]})",
            "the file was changed after it was signed",
            "what was changed, by whom, or with what intent: a chat that codes again changes bytes too",
            "ask for the file as it was signed",
        )
    if found.state == "broken":
        code, text = found.problems[0] if found.problems else ("", "it cannot be read")
        return Evidence(
            "credential",
            f"a manifest that does not hold ({code}: {text})"[:400],
            "the manifest was damaged, or made by somebody who could not sign",
            "who did it, or that the picture was changed",
            "ask for the file as it was signed",
        )
    rest = _rest_of(found)
    whole = "nobody changed the bytes" + (", but for what its hash leaves out," if found.left_out else "")
    if found.state in ("ended", "early"):
        ended = found.state == "ended"
        return Evidence(
            "credential",
            f"signed by {who}, whose certificate {'has ended' if ended else 'is not valid yet'}{rest}",
            f"{whole} since whoever held the key signed them",
            "that it was signed while the certificate was valid: there is no time stamp",
            "ask the signer to sign it again; if today is earlier, set this machine's clock"
            if ended
            else "set the clock of this machine, or have the signer set theirs and sign again",
        )
    if found.state == "trusted":
        return Evidence(
            "credential",
            f"signed by {who}, under a root that is trusted here ({found.root}); {_says(found.kind)}{rest}",
            "the file is byte for byte as they signed it"
            + (", but for what its hash leaves out" if found.left_out else ""),
            "that what they say is true, or that a recorded scene was not staged",
        )
    limited = next((f": {text}" for code, text in found.problems if code.startswith("org.sorano")), "")
    return Evidence(
        "credential",
        f"signed by {who}, whose root is not trusted here{limited}; {_says(found.kind)}{rest}",
        f"{whole} since they were signed",
        "who signed: a name in a certificate is what its maker typed",
        "if you know them, ask for their root in person and run: sorano trust add root.pem",
    )


def _rest_of(found: credentials.Credential) -> str:
    """What else a credential shows: its sources, its time, and what C2PA leaves out or passes over."""
    said = [f"from {', '.join(one.words for one in found.sources)}"] if found.sources else []
    by = "" if found.stamp_trusted else " by an authority that is unknown here"
    said.append(f"time stamped {found.signed_at}{by}" if found.signed_at else "no time stamp says when")
    if found.left_out:
        said.append(f"its hash leaves out {', '.join(found.left_out)}")
    if found.tolerated:
        said.append(f"codes not held against it: {', '.join(sorted({code for code, _ in found.tolerated}))}")
    return "; " + "; ".join(said)


def _of_mark(mark: DetectedMark, credential: credentials.Credential | None) -> Evidence:
    made = "made by AI, by Sorano" if mark.kind == "made" else "recorded with Sorano"
    odd = credential is not None and credential.mark_id is not None and credential.mark_id != mark.id
    note = f"; the credential names another, {store.name_of(credential.mark_id or 0)}" if odd and credential else ""
    if mark.carrier_id is None:
        return Evidence(
            "mark",
            f"the public mark {store.name_of(mark.id)} in the picture{mark.where}: {made}{note}",
            "the picture, or one that it was copied from, went through Sorano or somebody with its public key",
            "who made it: the public key is public, so the mark can be copied, forged and removed",
            "" if credential is not None else "ask for the signed file, or for a store that holds its manifest",
        )
    return Evidence(
        "mark",
        f"the private mark {store.name_of(mark.id)} of carrier {mark.carrier_id}{mark.where}: {made}{note}",
        "whoever put it in held the carrier's key",
        "who that was, unless a signed manifest names the carrier; once disclosed, anyone holds the key",
        "" if credential is not None else "ask for the signed file, or for a store that holds its manifest",
    )


def _of_audio_mark(
    heard: DetectedAudioMark, mark: DetectedMark | None, credential: credentials.Credential | None
) -> Evidence:
    name = f"...{heard.payload:04x}" + (f" of carrier {heard.carrier_id}" if heard.carrier_id else "")
    which = "public" if heard.carrier_id is None else "private"
    if credential is not None and credential.mark_id is not None and mark is None:
        is_its = heard.payload == audio_payload(credential.mark_id) and heard.carrier_id == credential.carrier_id
        return Evidence(
            "audio mark",
            f"the {which} mark {name} in the audio: "
            + ("that of the credential" if is_its else "not the credential's"),
            "the audio, or what it was copied from, went through Sorano or somebody with the key",
            "who made it: that is what the credential says",
        )
    if mark is not None and heard.is_of(mark):
        return Evidence(
            "audio mark",
            f"the {which} mark {name} in the audio: that of the picture's",
            "picture and audio, or what they were copied from, were marked together",
            "that nothing of what is said was cut or moved: the audio mark is read over all of a recording",
        )
    if mark is not None:
        return Evidence(
            "audio mark",
            f"the {which} mark {name} in the audio: not that of the picture's",
            "the audio was marked with another recording than the picture",
            "that it was forged: music and dubbing are put under pictures, and recordings are marked again",
            "ask for the recording that the audio is from",
        )
    return Evidence(
        "audio mark",
        f"the {which} mark {name} in the audio, and none in the picture",
        "the audio, or what it was copied from, was marked with Sorano or by somebody with the key",
        "whose recording it is: sixteen bits name none, and the public key is public",
        "ask for the signed file",
    )


def _of_lost_mark(credential: credentials.Credential) -> Evidence:
    private = credential.carrier_id is not None
    return Evidence(
        "mark",
        f"the mark {store.name_of(credential.mark_id or 0)} that the credential names was not read",
        "nothing: " + ("its carrier is private" if private else "small or plain pictures may not hold one"),
        "that it was removed: the bytes are as they were signed",
        "ask the signer to disclose the carrier: sorano keys disclose" if private else "",
    )


def _of_map(regions: Sequence[TamperedRegion], reach: float | None) -> Evidence:
    if not regions and reach is None:
        return Evidence(
            "tamper map",
            "this coding left too little of the mark to say where it is missing",
            "nothing",
            "that the picture is whole, or that it is not",
        )
    if not regions:
        return Evidence(
            "tamper map",
            f"the mark is missing nowhere: in this coding a hole of {reach:.0%} of the picture would be seen",
            "no part of that size was replaced after it was marked",
            "that small parts were not; whoever has the key can mark a replacement too",
        )
    one = regions[0]
    left, top, right, bottom = one.box
    where = f"{one.start_s:.1f} to {one.end_s:.1f} s, {left:.0%}-{right:.0%} across, {top:.0%}-{bottom:.0%} down"
    return Evidence(
        "tamper map",
        f"the mark is missing in {len(regions)} place{'s'[: len(regions) > 1]}: {where}",
        "something was put over the marked picture there",
        "what was there before, or why: subtitles and stickers do this too",
        "look at the map: sorano verify --html report.html; ask for the original",
    )


def _of_label(one: FoundLabel) -> Evidence:
    wrong = f" ({'; '.join(one.problems)})" if one.problems else ""
    return Evidence(
        "label",
        f"AIGC in {one.carrier}: it {one.says}, by {one.fields.get('ContentProducer', '')[:80]!r}{wrong}",
        "somebody wrote that label",
        "who wrote it, or that it is true: metadata is easily written and removed",
    )


def _of_indicators(found: Iterable[Indicator]) -> Evidence:
    return Evidence(
        "indicators",
        words(list(found)),
        "nothing by itself: at most 1 in 100 ordinary clips shows one",
        "that it was forged: editing and faulty cameras do this too",
        "ask for the original file, and where it was first published",
    )


def _of_trace(one: Trace) -> Evidence:
    return Evidence(
        "triage",
        one.words,
        "nothing: triage is no proof, and some ordinary files are as unusual",
        "that it was forged, or that it is genuine where this is usual: in the wild such detectors lose half of it",
        "look at that place; ask for the original file" if one.is_odd else "",
    )


def files_in(place: Path) -> Iterator[Path]:
    """The media files of a folder and its folders, sorted."""
    yield from sorted(file for file in place.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())


def files_to_ask(places: Iterable[Path]) -> Iterator[Path]:
    """The files that are named, and the media files in folders that are."""
    for place in places:
        if place.is_dir():
            yield from files_in(place)
        else:
            yield place


__all__ = ["Evidence", "Observations", "Report", "Verdict", "containers", "examine", "judge", "look", "verify"]
