"""One's own recordings: marked, labelled and signed as what Sorano makes is, so that copies can be told from originals.

A video goes through in constant memory, with its own time stamps, and its audio, subtitles and chapters where the new
file takes them. The original is never changed, unless asked, and then it is replaced in one step by a file that was
read back, and never by one that has less of frames, seconds, channels, tracks or pixels.

What the original says of its origin (public mark, labels, credential, metadata) is read first: what AI made cannot be
marked as a recording, and a file that says anything of the kind becomes an ingredient of what it is made into.

Not covered: audio is marked only when asked, for it has to be coded again; 10-bit and HDR become 8 bits; further video
tracks are left out; WebM and MKV get the mark and the label, and no signature, because C2PA has no place in them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sorano.errors import RequestError, TrustError, VideoError
from sorano.media import pictures, read, recode
from sorano.trust import media, release
from sorano.trust.copies import fingerprint
from sorano.trust.printable import printable, printable_line
from sorano.trust.provenance import containers, credentials, embedding, keys, label
from sorano.video import (
    ANIMATED_SUFFIXES,
    IMAGE_SUFFIXES,
    beside,
    check_target,
    write_animation,
    write_image,
)

if TYPE_CHECKING:
    from sorano.media.audio import ChangesAudio
    from sorano.trust.report import Report
    from sorano.video import Frames

ALPHA_SUFFIXES = (".png", ".webp")
VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm")
AUDIO_KINDS = {".m4a": "ipod", ".wav": "wav", ".mp3": "mp3", ".flac": "flac"}  # FFmpeg's names
UNHEARD = "the audio's mark does not read back: it may be too short (3 s are the least), too quiet or too even"
MOST_ANIMATED_BYTES = 500_000_000  # of all frames of an animation, which are held at once
MISSING_SHARE = 0.02  # of frames and seconds: a file may begin with frames that cannot be decoded
CONFIRM_SECONDS = 20.0  # of a long recording in which its mark is looked for when it is read back


@dataclass(frozen=True)
class Marking:
    """What to say of a file."""

    kind: str = "captured"  # captured, made, edited
    private: bool = False  # a carrier of its own, disclosed later
    source: Path | None = None  # what an edit was made from
    title: str | None = None
    producer: str = "Sorano"
    audience: str = "none"
    visible_label: bool | None = None
    mark_audio: bool = False  # mark what is heard too: it is coded again

    def __post_init__(self) -> None:
        if self.kind not in credentials.SOURCE_TYPES:
            raise RequestError(f"unknown kind {self.kind!r}", f"use one of {', '.join(credentials.SOURCE_TYPES)}")
        if self.private and self.kind != "captured":
            raise RequestError("private carriers are for recordings", "leave --private out, or use --capture")
        label.default_audience(self.audience)

    @property
    def drawn(self) -> bool:
        """Whether the visible sign is drawn; never on a recording."""
        return label.is_drawn(self.audience, self.visible_label) and self.kind != "captured"


@dataclass(frozen=True)
class Origin:
    """What a file says of its own origin before it is marked. `reasons`: why it is no plain recording."""

    reasons: tuple[str, ...] = ()
    label: label.Label | None = None  # that it carries, where it is as the standard says
    signed: bool = False  # it holds a credential, or something in its place

    @property
    def matters(self) -> bool:
        """Whether the file has to be named in what is made of it."""
        return self.signed or bool(self.reasons)


@dataclass(frozen=True)
class Marked:
    """A finished file: what reading it back found, its private carrier's id, and what should be known."""

    path: Path
    report: Report
    carrier_id: str | None = None
    notes: tuple[str, ...] = ()


def mark_file(
    source: Path, target: Path | None = None, words: Marking | None = None, *, overwrite: bool = False
) -> Marked:
    """Marks, labels and signs a video or a picture; `target` may be the source itself with `overwrite`.

    Raises RequestError, VideoError, TrustError; then nothing was written.
    """
    words = words or Marking()
    if media.is_audio_file(source):
        return _mark_audio(source, target, words, overwrite)
    found = media.probe(source)
    is_still = found.is_image and not found.is_animated
    target = target or source.with_name(f"{source.stem}.marked{_suffix(found, source)}")
    is_animation = found.is_animated and target.suffix.lower() in ANIMATED_SUFFIXES
    suffixes = IMAGE_SUFFIXES if is_still else ANIMATED_SUFFIXES if is_animation else VIDEO_SUFFIXES
    check_target(target, overwrite=overwrite, suffixes=suffixes)
    origin = origin_of(found)
    _require_fitting(source, words, origin)
    if words.mark_audio and not found.has_audio:
        raise RequestError(f"{source} has no audio to mark", "leave --mark-audio out")
    signer = keys.identity()
    chosen = _new_mark(words)
    notes = list(read.notes(found))
    lost = _losses(found, target, is_still)
    _require_no_less(source, target, lost)
    notes += lost
    if is_still:
        report = _mark_image(found, target, words, chosen, signer, overwrite, origin)
    elif is_animation:
        report = _mark_animation(found, target, words, chosen, signer, overwrite, origin)
    else:
        report = _mark_video(found, target, words, chosen, signer, overwrite, notes, origin)
    return Marked(target, report, chosen.carrier.id if chosen.carrier else None, tuple(dict.fromkeys(notes)))


def _require_no_less(source: Path, target: Path, lost: list[str]) -> None:
    """Raises RequestError where a file would be replaced by one that has less."""
    if lost and target.exists() and target.samefile(source):
        raise RequestError(
            f"{source} would be replaced by less: {'; '.join(lost)}", "write a copy beside it with -o, and compare"
        )


def _new_mark(words: Marking) -> release.Mark:
    carrier = keys.new_carrier() if words.private else None
    return release.Mark("captured" if words.kind == "captured" else "made", release.new_id(), carrier)


def _require_fitting(source: Path, words: Marking, origin: Origin) -> None:
    """Raises RequestError where what is to be said of a file contradicts what it says of itself."""
    if words.source is not None and not words.source.is_file():
        raise RequestError(f"there is no source {words.source}")
    if words.kind == "captured" and origin.reasons:
        raise RequestError(
            f"{source} cannot be marked as a recording: {'; '.join(origin.reasons)}",
            "keep what it says with --made, or name what it was edited from with --edit-of",
        )


def _mark_audio(source: Path, target: Path | None, words: Marking, overwrite: bool) -> Marked:
    """A file of audio alone: the mark in what is heard, the label, the signature."""
    from sorano.trust.judge import Observations, judge
    from sorano.trust.scan import hear
    from sorano.video import whole_or_nothing

    if words.visible_label:
        raise RequestError(f"{source} has no picture for a visible label", "leave --visible-label out")
    suffix = source.suffix.lower() if source.suffix.lower() in AUDIO_KINDS else ".m4a"
    target = target or source.with_name(f"{source.stem}.marked{suffix}")
    check_target(target, overwrite=overwrite, suffixes=tuple(AUDIO_KINDS))
    origin = _origin_of_bytes(source)
    _require_fitting(source, words, origin)
    kind = AUDIO_KINDS[target.suffix.lower()]
    notes = recode.audio_losses(source, kind)
    _require_no_less(source, target, notes)
    signer, chosen = keys.identity(), _new_mark(words)
    manifest = None
    with whole_or_nothing(target, overwrite=overwrite) as temporary:
        recode.recode_audio(source, temporary, kind, _audio_marker(chosen))
        heard = hear(media.audio_alone(temporary, media.AUDIO_RATE), chosen.carriers, notes)
        notes += [] if chosen.is_heard(heard) else [UNHEARD]
        if kind == "flac":
            notes.append("FLAC has no place for a C2PA signature: it is marked, not signed; use .wav or .m4a for both")
            report = judge(Observations(str(target), audio_mark=heard))
        else:
            manifest = _finished(temporary, source, words, chosen, None, signer, origin)
            report = release.confirm(temporary, chosen, signer, (), 1.0, heard)
    if manifest is not None:
        release.remember(chosen, manifest)
    carrier_id = None if chosen.carrier is None else chosen.carrier.id
    return Marked(target, replace(report, path=str(target)), carrier_id, tuple(dict.fromkeys(notes)))


def _losses(found: media.InspectedMedia, target: Path, is_still: bool) -> list[str]:
    """What a file has that its marked copy would not have, in words."""
    if not is_still:
        return recode.losses(found, _kind(target))
    lost = []
    if found.num_pictures > 1:
        lost.append(f"the first of its {found.num_pictures} pictures is all that is kept")
    if found.has_alpha and target.suffix.lower() not in ALPHA_SUFFIXES:
        lost.append("its transparency is left out")
    return lost


def _kind(target: Path) -> str:
    return {".mkv": "matroska", ".webm": "webm"}.get(target.suffix.lower(), "mp4")


def _suffix(found: media.InspectedMedia, source: Path) -> str:
    if found.is_animated:
        return source.suffix if source.suffix.lower() in ANIMATED_SUFFIXES else ".mp4"
    if found.is_image:
        return source.suffix if source.suffix.lower() in IMAGE_SUFFIXES else ".png"
    return source.suffix if source.suffix.lower() in (".mkv", ".webm") else ".mp4"


def origin_of(found: media.InspectedMedia) -> Origin:
    """What a file says of its origin: its credential, labels and metadata, and the public mark in what it shows.

    The mark is looked for where nothing else says that AI made it: the search takes seconds. Raises VideoError for a
    file that cannot be read.
    """
    from sorano.trust.scan import FileScan
    from sorano.video import read_metadata

    said = _origin_of_bytes(found.path)
    reasons = list(said.reasons)
    with suppress(VideoError):
        if not found.is_image and "preset" in read_metadata(found.path):
            reasons.append("its metadata say that Sorano made it")
    if reasons:
        return replace(said, reasons=tuple(reasons))
    scan = FileScan(found, compares=False)
    for part in media.shown(found):
        scan.add(part)
    mark, _, _ = scan.mark([])
    if mark is not None and mark.kind == "made":
        reasons.append(f"it carries the public mark {mark.id:010x} of what AI made")
    return replace(said, reasons=tuple(reasons))


def _origin_of_bytes(path: Path) -> Origin:
    """The same of a file's credential, labels and XMP alone."""
    from sorano.trust.provenance import roots

    reasons: list[str] = []
    labels: list[label.FoundLabel] = []
    xmp = ""
    credential = credentials.read(path, roots.anchors())
    if credential is not None and credential.says_ai:
        reasons.append(f"its credential, by {credential.signer or 'somebody'}, says that AI made or edited it")
    elif credential is not None and credential.state == "broken":
        reasons.append("its credential is damaged, and may have said that AI made it")
    with suppress(VideoError):  # a damaged recording is one still: what cannot be read of it says nothing
        labels = label.read(path)
        xmp = containers.xmp_of(path)
    if labels:
        reasons.append(f"its label ({labels[0].carrier}) says that it {labels[0].says}")
    if any(word in xmp for word in credentials.AI_SOURCE_TYPES):
        reasons.append("its XMP gives an AI's digital source type")
    right = next((one.label for one in labels if one.label is not None), None)
    return Origin(tuple(map(printable_line, reasons)), right, credential is not None)


def _ingredients(path: Path, words: Marking, origin: Origin) -> list[credentials.Ingredient]:
    """The source of an edit, and the file itself where it says anything of its origin; --private hides names only."""
    given = []
    if words.source is not None:
        given.append(credentials.Ingredient(words.source, "parentOf", words.source.name))
    if origin.matters and (words.source is None or not words.source.samefile(path)):
        given.append(credentials.Ingredient(path, "inputTo", path.name))
    if words.private:
        given = [replace(one, title=f"input {index}") for index, one in enumerate(given, 1)]
    return given


def _mark_image(
    found: media.InspectedMedia,
    target: Path,
    words: Marking,
    chosen: release.Mark,
    signer: keys.Identity,
    overwrite: bool,
    origin: Origin,
) -> Report:
    import numpy as np

    from sorano.trust.watermark.embed import mark_image

    frame, alpha_HW = pictures.read_alpha(found.path)
    is_opaque = not found.has_alpha or target.suffix.lower() not in ALPHA_SUFFIXES
    if is_opaque:
        frame = pictures.read(found.path)
    if words.drawn:
        frame = label.draw(frame[None], words.audience, kind=words.kind)[0]
    frame = mark_image(frame, chosen.payload, key=chosen.key)
    reports, manifests = [], []

    def finish(temporary: Path) -> None:
        seen = pictures.read(temporary)[None]
        prints = fingerprint.take(seen, 1.0, still=True)
        manifests.append(_finished(temporary, found.path, words, chosen, prints, signer, origin))
        reports.append(release.confirm(temporary, chosen, signer, [seen], 1.0))

    if not is_opaque:
        frame = np.dstack([frame, alpha_HW])
    write_image(target, frame, overwrite=overwrite, finish=finish)
    release.remember(chosen, manifests[0])
    return replace(reports[0], path=str(target))


def _mark_animation(
    found: media.InspectedMedia,
    target: Path,
    words: Marking,
    chosen: release.Mark,
    signer: keys.Identity,
    overwrite: bool,
    origin: Origin,
) -> Report:
    """Every frame of an animated PNG or WebP, for as long as it was shown."""
    from sorano.trust.watermark.embed import mark_image

    if 3 * found.width * found.height * found.num_pictures > MOST_ANIMATED_BYTES:
        raise RequestError(
            f"{found.path} has {found.num_pictures} frames of {found.width}x{found.height}: too many for a picture",
            "give -o a name that ends in .mp4",
        )
    shown = list(read.pictures_of(found))
    drawn = [
        label.draw(one.frame_HWC[None], words.audience, kind=words.kind)[0] if words.drawn else one.frame_HWC
        for one in shown
    ]
    frames = [mark_image(frame, chosen.payload, key=chosen.key) for frame in drawn]
    reports, manifests = [], []

    def finish(temporary: Path) -> None:
        fingerprinter = fingerprint.FingerprintBuilder(found.fps)
        for part in media.shown(media.probe(temporary)):
            fingerprinter.add(part.frames_THWC, part.starts_T, float(part.ends_T[-1]))
        fingerprinter.listen([])
        manifests.append(_finished(temporary, found.path, words, chosen, fingerprinter.stored(), signer, origin))
        seen = media.chunks(media.probe(temporary))
        reports.append(release.confirm(temporary, chosen, signer, seen, found.fps))

    seconds = [one.end - one.start for one in shown]
    write_animation(target, frames, seconds, overwrite=overwrite, finish=finish)
    release.remember(chosen, manifests[0])
    return replace(reports[0], path=str(target))


def _finished(
    temporary: Path,
    source: Path,
    words: Marking,
    chosen: release.Mark,
    prints: fingerprint.Fingerprint | None,
    signer: keys.Identity,
    origin: Origin,
) -> bytes:
    from sorano import __version__

    said = {}
    if words.kind != "captured":
        said = label.disclosure(
            words.audience,
            provider=words.producer,
            system="not known to Sorano, which marked it",
            version=f"marked with Sorano {__version__}",
            mark_id=f"{chosen.id:010x}",
        )
    return release.finish(
        temporary,
        chosen,
        prints,
        signer,
        kind=words.kind,
        title=words.title or source.name,
        ingredients=_ingredients(source, words, origin),
        producer=words.producer,
        passed_on=origin.label,
        record={"disclosure": said} if said else {},
    )


def _mark_video(
    found: media.InspectedMedia,
    target: Path,
    words: Marking,
    chosen: release.Mark,
    signer: keys.Identity,
    overwrite: bool,
    notes: list[str],
    origin: Origin,
) -> Report:
    from sorano.trust.judge import Observations, judge
    from sorano.trust.scan import hear
    from sorano.video import whole_or_nothing

    kind = _kind(target)
    fps = found.fps if found.fps > 0 else 25.0
    fingerprinter = fingerprint.FingerprintBuilder(fps)
    manifest = None
    with whole_or_nothing(target, overwrite=overwrite) as temporary:
        with beside(target) as encoded:
            made = _encode(found, encoded, kind, words, chosen, fingerprinter, fps, origin)
            notes += made.notes
            _require_whole(found, made, target)
            os.replace(encoded, temporary)
        if kind == "mp4":
            fingerprinter.listen(media.sound(media.probe(temporary)))
            manifest = _finished(temporary, found.path, words, chosen, fingerprinter.stored(), signer, origin)
            frames = media.chunks(media.probe(temporary), CONFIRM_SECONDS)
            report = release.confirm(temporary, chosen, signer, frames, fps)
        else:
            notes.append(
                f"{target.suffix} has no place for a C2PA signature: it is marked, not signed; use .mp4 for both"
            )
            seen = release.read_mark(chosen, media.chunks(media.probe(temporary), CONFIRM_SECONDS), fps)
            report = judge(Observations(str(target), labels=tuple(label.read(temporary)), mark=seen))
        if report.mark_id is None or not any(
            one.about == "mark" and "not read" not in one.found for one in report.evidence
        ):
            notes.append("the mark does not read back: the picture may be too small, too plain or too short")
        if words.mark_audio:
            heard = hear(media.sound(media.probe(temporary), media.AUDIO_RATE), chosen.carriers, notes)
            notes += [] if chosen.is_heard(heard) else [UNHEARD]
    if manifest is not None:
        release.remember(chosen, manifest)
    return replace(report, path=str(target))


def _encode(
    found: media.InspectedMedia,
    target: Path,
    kind: str,
    words: Marking,
    chosen: release.Mark,
    fingerprinter: fingerprint.FingerprintBuilder,
    fps: float,
    origin: Origin,
) -> recode.Recoded:
    """Decodes, draws, marks and encodes, frame by frame, with the times and the other tracks that there were."""
    from sorano.trust.watermark.embed import Marker

    marker = Marker(chosen.payload, height=found.height, width=found.width, fps=fps, key=chosen.key)
    shown = label.sign_frames(None if found.seconds is None else round(found.seconds * fps), fps, words.audience)

    def paint(frames_THWC: Frames, first: int, start: float, end: float) -> Frames:
        if words.drawn:
            frames_THWC = label.draw(frames_THWC, words.audience, first=first, shown=shown, kind=words.kind)
        marked = marker(frames_THWC)
        fingerprinter.add(marked, [start], end)
        return marked

    tags = {}
    if kind != "mp4" and words.kind != "captured":
        text = release.label_of(chosen, words.producer, keys.identity(), origin.label)
        tags[label.KEY] = text.to_json()
    return recode.recode(found, target, kind, paint, tags, _audio_marker(chosen) if words.mark_audio else None)


def _audio_marker(chosen: release.Mark) -> Callable[[int, int], ChangesAudio]:
    """What marks an audio track of so many samples a second and channels."""
    from sorano.trust.watermark.audio import AudioMarker

    return lambda rate, channels: AudioMarker(chosen.audio_payload, rate, channels, chosen.key)


def _require_whole(found: media.InspectedMedia, made: recode.Recoded, target: Path) -> None:
    """Raises VideoError where what was written has fewer frames than its source, or is shorter."""
    if found.is_image:
        return
    with read.inspected(found.path) as given:
        video = read.video_stream(given, found.path)
        length, count = read.length_of(given, video, found.path)
    frame = length / max(count, 1)  # how long the last one is shown is a guess where the rate varies
    if made.num_frames < (1 - MISSING_SHARE) * count or made.seconds + frame < (1 - MISSING_SHARE) * length:
        raise VideoError(
            f"{target} would hold {made.num_frames} of {count} frames and {made.seconds:.1f} of {length:.1f} s",
            "some of the file cannot be decoded",
        )


def label_file(source: Path, target: Path | None, words: label.Label, *, overwrite: bool = False) -> tuple[Path, str]:
    """Writes an AIGC label into a copy of a file, or into the file itself; returns where, and in which carrier.

    Raises RequestError for a signed file, whose signature the label would break.
    """
    import shutil

    if embedding.has_c2pa(source):
        raise RequestError(
            f"{source} is signed, and a label would break its signature", "sorano mark labels, then signs anew"
        )
    target = target or source.with_name(f"{source.stem}.labelled{source.suffix}")
    if target != source and target.exists() and not overwrite:
        raise RequestError(f"{target} exists and is kept", "use --overwrite, or another name with -o")
    label.check_fields(words)
    _check_lowers_nothing(source, words)
    with beside(target) as temporary:
        try:
            shutil.copyfile(source, temporary)
            carrier = label.write(temporary, words)
            os.replace(temporary, target)
        except OSError as error:
            raise VideoError(f"{target} cannot be written: {error.strerror}") from error
    return target, carrier


def _check_lowers_nothing(source: Path, words: label.Label) -> None:
    """Raises RequestError for a label that says less than the file's own, or takes its producer's name away."""
    for found in label.read(source):
        level, producer = found.fields.get("Label", ""), found.fields.get("ContentProducer", "")
        if level in label.MEANINGS and level < words.label:
            raise RequestError(
                f"{source} has a label that says that it {found.says}", f"a new one may not say less: --level {level}"
            )
        if producer.strip() and found.label is not None and producer != words.producer:
            raise RequestError(
                f"{source} has a label by {printable(producer)!r}, which would be lost",
                "name them as --producer, and yourself as --propagator",
            )


def check_labels(path: Path) -> list[label.Item]:
    """Both regimes, item by item: what a file has of what they ask for."""
    from sorano.trust.provenance import roots
    from sorano.trust.scan import FileScan

    found = media.probe(path)
    items = []
    labels = label.read(path)
    right = next((one for one in labels if not one.problems), None)
    first = right or (labels[0] if labels else None)
    cn, eu = "CN GB 45438-2025", "EU AI Act, Article 50"
    where = f"in {first.carrier}" if first else "none was found"
    items.append(label.Item(cn, "AIGC object in the metadata", "yes" if first else "no", where))
    if first:
        producer = printable(first.fields.get("ContentProducer", ""))
        said = "; ".join(first.problems) or f"it {first.says}, producer {producer!r}"
        items.append(label.Item(cn, "its seven keys, as the standard says", "no" if first.problems else "yes", said))
        holds = label.signature_holds(first.label) if first.label else None
        if holds is not None:
            items.append(label.Item(cn, "ReservedCode1 fits the fields", "yes" if holds else "no", "ES256, by Sorano"))
    items.append(_check_sign(found, cn))
    credential = credentials.read(path, roots.anchors())
    state = "no" if credential is None or credential.state in ("changed", "broken") else "yes"
    said = "none" if credential is None else f"{credential.state}; {credential.kind or 'no kind'}"
    if not found.container.readable:
        said = f"C2PA has no place in {found.container.name} files"
    items.append(label.Item(eu, "signed metadata (1.1.1)", state, said))
    made = credential is not None and credential.kind in ("made", "edited")
    items.append(label.Item(eu, "it says made or edited with AI", "yes" if made and state == "yes" else "no", said))
    eyes = FileScan(found)
    for part in media.shown(found):
        eyes.add(part)
        if part.ends_T[-1] > CONFIRM_SECONDS:
            break
    mark, _, _ = eyes.mark([])
    if mark is not None:
        items.append(label.Item(eu, "imperceptible watermark (1.1.2)", "yes", f"the mark {mark.id:010x}, {mark.kind}"))
    else:
        items.append(
            label.Item(eu, "imperceptible watermark (1.1.2)", "no", "Sorano's mark was not read; others may be there")
        )
    items += _check_disclosure(credential)
    stored = credential is not None and credential.fingerprint is not None
    items.append(
        label.Item(
            eu,
            "fingerprint or log (1.1.3, optional)",
            "yes" if stored else "unknown",
            "in the manifest" if stored else "",
        )
    )
    return items


def _check_disclosure(credential: credentials.Credential | None) -> list[label.Item]:
    """India's permanent identifier and California's latent disclosure, which only their audiences get."""
    said = {} if credential is None or credential.state not in credentials.WHOLE else credential.record
    words = said.get("disclosure")
    found = {name: str(value) for name, value in words.items()} if isinstance(words, Mapping) else {}
    wanted = ("provider", "system", "version", "time", "id")
    whole = all(found.get(name) for name in wanted)
    detail = (
        printable("; ".join(f"{name} {found[name]}" for name in wanted)) if whole else "made for --audience in, us-ca"
    )
    return [
        label.Item(
            "IN IT Rules, rule 3(3)", "metadata with a unique id", "yes" if found.get("id") else "unknown", detail
        ),
        label.Item("US-CA SB 942", f"latent disclosure: {', '.join(wanted)}", "yes" if whole else "unknown", detail),
    ]


def _check_sign(found: media.InspectedMedia, regime: str) -> label.Item:
    """The visible sign: on every frame of the first two seconds, or of a shorter clip."""
    item = "visible sign, 2 s or more from the first frame, 5 % of the shorter side"
    least = 1 if found.is_image else max(1, round(label.LEAST_SECONDS * (found.fps or 25)))
    seen: list[str | None] = []
    with suppress(VideoError):
        for chunk in media.chunks(found, label.LEAST_SECONDS + 0.5):
            seen += [label.sign_found(frame) for frame in chunk]
    signs = seen[:least]
    if signs and all(signs):
        height = label.sign_height(found.height, found.width)
        return label.Item(regime, item, "yes", f"{signs[0]!r}, letters of {height:.1%}")
    return label.Item(regime, item, "unknown", "none of Sorano's was seen; signs that others drew are not recognised")


__all__ = ["Marked", "Marking", "TrustError", "check_labels", "label_file", "mark_file"]
