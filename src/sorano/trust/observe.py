"""Everything that can be seen of a file, gathered for a verdict; called in the child process that reads it.

Not covered: what follows from it (`sorano.trust.judge`).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sorano.errors import VideoError
from sorano.trust import sandbox
from sorano.trust.copies import lookup
from sorano.trust.copies.lookup import StoredMatch
from sorano.trust.indicators import Indicator, Trace
from sorano.trust.judge import Observations, judge
from sorano.trust.provenance import containers, credentials, keys, roots
from sorano.trust.scan import LEAST_SECONDS_LEFT, FileScan, hear
from sorano.trust.watermark.marks import DetectedMark

if TYPE_CHECKING:
    from sorano.trust import media as media_module
    from sorano.trust.provenance.label import FoundLabel
    from sorano.trust.watermark.tamper import TamperMap
    from sorano.video import Frames

MOST_PRIVATE_KEYS = 8  # private carriers that are tried on a file whose manifest names none


def examine_here(
    path: str, trust: str | None, stores: Sequence[str], bundle: str | None, with_map: bool, triage: bool = False
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What `examine` runs in the child: the report as JSON, the times of the map's windows, and the map."""
    private = None if bundle is None else Path(bundle)
    seen, shown = observe(Path(path), trust=trust, stores=stores, bundle=private, with_map=with_map, triage=triage)
    found = {"report": judge(seen).to_dict(), "times": None}
    if shown is None or not with_map:
        return found, {}
    return {**found, "times": [list(shown.starts_s), list(shown.ends_s)]}, {"map_THW": shown.map_THW}


def observe(
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


def _beside(found: media_module.InspectedMedia, scan: FileScan) -> tuple[str, ...]:
    """Why what was compared may not be all that players show."""
    try:
        return lookup.beside(found, lookup.opaque(found), scan.complete and scan.fingerprinter.stride == 1, scan.brief)
    except VideoError as error:
        return (error.message,)


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
