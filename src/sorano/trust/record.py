"""One's own recordings: marked, labelled and signed as what Sorano makes is, so that copies can be told from originals.

A video goes through in constant memory, with its own time stamps, and its sound as it was. The original is never
changed, unless asked, and then it is replaced in one step by a file that was read back.

Not covered: sound is not marked; 10-bit and HDR become 8 bits; further video streams, subtitles and chapters are left
out; WebM and MKV get the mark and the label, and no signature, because C2PA has no place in them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sorano.errors import RequestError, TrustError, VideoError
from sorano.sound import Sound
from sorano.trust import containers, credentials, embedding, fingerprint, keys, label, media, release
from sorano.video import (
    BT709,
    CODER,
    IMAGE_SUFFIXES,
    LIMITED_RANGE,
    beside,
    check_target,
    read_image,
    upright,
    write_image,
)

if TYPE_CHECKING:
    from sorano.trust.verify import Report

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm")
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

    def __post_init__(self) -> None:
        if self.kind not in credentials.SOURCE_TYPES:
            raise RequestError(f"unknown kind {self.kind!r}", f"use one of {', '.join(credentials.SOURCE_TYPES)}")
        if self.private and self.kind != "captured":
            raise RequestError("private carriers are for recordings", "leave --private out, or use --capture")
        label.default_audience(self.audience)

    @property
    def drawn(self) -> bool:
        """Whether the visible sign is drawn; never on a recording."""
        asked = self.audience == "cn" if self.visible_label is None else self.visible_label
        return asked and self.kind != "captured"


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
    found = media.probe(source)
    suffixes = IMAGE_SUFFIXES if found.is_image else VIDEO_SUFFIXES
    target = target or source.with_name(f"{source.stem}.marked{_suffix(found, source)}")
    check_target(target, overwrite=overwrite, suffixes=suffixes)
    if words.source is not None and not words.source.is_file():
        raise RequestError(f"there is no source {words.source}")
    signer = keys.identity()
    carrier = keys.new_carrier() if words.private else None
    chosen = release.Mark("captured" if words.kind == "captured" else "made", release.new_id(), carrier)
    notes = []
    if "10" in found.pixel_format or "12" in found.pixel_format or "p016" in found.pixel_format:
        notes.append(f"its {found.pixel_format} pixels become 8 bits")
    if found.pixel_format.startswith(("yuva", "rgba", "argb", "bgra")):
        notes.append("its transparency is left out")
    if found.is_image:
        report = _mark_image(found, target, words, chosen, signer, overwrite)
    else:
        report = _mark_video(found, target, words, chosen, signer, overwrite, notes)
    return Marked(target, report, carrier.id if carrier else None, tuple(notes))


def _suffix(found: media.Media, source: Path) -> str:
    if found.is_image:
        return source.suffix if source.suffix.lower() in IMAGE_SUFFIXES else ".png"
    return source.suffix if source.suffix.lower() in (".mkv", ".webm") else ".mp4"


def _ingredients(found: media.Media, words: Marking) -> list[credentials.Ingredient]:
    if words.source is not None:
        if not containers.sniff(words.source).signable:
            raise RequestError(f"{words.source} cannot be named as a source: C2PA has no place in it")
        return [credentials.Ingredient(words.source, "parentOf", words.source.name)]
    if found.container.signable and embedding.has_c2pa(found.path):
        return [credentials.Ingredient(found.path, "inputTo", found.path.name)]  # its own credential is kept
    return []


def _mark_image(
    found: media.Media, target: Path, words: Marking, chosen: release.Mark, signer: keys.Identity, overwrite: bool
) -> Report:
    from sorano.trust.watermark import mark_image

    frame = read_image(found.path)
    if words.drawn:
        frame = label.draw(frame[None], words.audience)[0]
    frame = mark_image(frame, chosen.payload, key=chosen.key)
    reports, manifests = [], []

    def finish(temporary: Path) -> None:
        prints = fingerprint.take(frame[None], 1.0)
        manifests.append(_finished(temporary, found, words, chosen, prints, signer))
        seen = read_image(temporary)[None]
        reports.append(release.confirm(temporary, chosen, signer, [seen], 1.0))

    write_image(target, frame, overwrite=overwrite, finish=finish)
    release.remember(chosen, manifests[0])
    return replace(reports[0], path=str(target))


def _finished(
    temporary: Path,
    found: media.Media,
    words: Marking,
    chosen: release.Mark,
    prints: fingerprint.Fingerprint,
    signer: keys.Identity,
) -> bytes:
    return release.finish(
        temporary,
        chosen,
        prints,
        signer,
        kind=words.kind,
        title=words.title or found.path.name,
        ingredients=_ingredients(found, words),
        producer=words.producer,
    )


def _mark_video(
    found: media.Media,
    target: Path,
    words: Marking,
    chosen: release.Mark,
    signer: keys.Identity,
    overwrite: bool,
    notes: list[str],
) -> Report:
    from sorano.trust.verify import Look, judge
    from sorano.video import whole_or_nothing

    kind = {".mkv": "matroska", ".webm": "webm"}.get(target.suffix.lower(), "mp4")
    fps = found.fps if found.fps > 0 else 25.0
    taker = fingerprint.Taker(fps)
    manifest = None
    with whole_or_nothing(target, overwrite=overwrite) as temporary:
        with beside(target) as encoded:
            _encode(found, encoded, kind, words, chosen, taker, fps, notes)
            os.replace(encoded, temporary)
        back = replace(found, path=temporary, container=containers.sniff(temporary))
        if kind == "mp4":
            manifest = _finished(temporary, found, words, chosen, taker.stored(), signer)
            frames = media.chunks(media.probe(temporary), CONFIRM_SECONDS)
            report = release.confirm(temporary, chosen, signer, frames, fps)
        else:
            notes.append(
                f"{target.suffix} has no place for a C2PA signature: it is marked, not signed; use .mp4 for both"
            )
            seen = release.read_mark(chosen, media.chunks(back, CONFIRM_SECONDS), fps)
            report = judge(Look(str(target), labels=tuple(label.read(temporary)), mark=seen))
        if report.mark_id is None or not any(
            one.about == "mark" and "not read" not in one.found for one in report.evidence
        ):
            notes.append("the mark does not read back: the picture may be too small, too plain or too short")
    if manifest is not None:
        release.remember(chosen, manifest)
    return replace(report, path=str(target))


def _encode(
    found: media.Media,
    target: Path,
    kind: str,
    words: Marking,
    chosen: release.Mark,
    taker: fingerprint.Taker,
    fps: float,
    notes: list[str],
) -> None:
    """Decodes, draws, marks and encodes, frame by frame, with the time stamps and the sound that there were."""
    import av
    import numpy as np

    from sorano.trust.watermark import Marker

    options = {"movflags": "+faststart"} if kind == "mp4" else {}
    shown = label.sign_frames(None if found.seconds is None else round(found.seconds * fps), fps)
    marker: Any = None
    count = 0
    try:
        with (
            av.open(f"file:{found.path}") as source,
            av.open(f"file:{target}", "w", format=kind, options=options) as out,
        ):
            video = source.streams.video[0]
            video.thread_type = "AUTO"
            stream: Any = None
            last = -1
            sound = Sound(source, out, kind) if source.streams.audio else None
            if sound is not None and sound.said:
                notes.append(sound.said)
            if kind != "mp4" and words.kind != "captured":
                text = label.Label(producer=words.producer, produce_id=f"sorano-{chosen.id:010x}")
                out.metadata[label.KEY] = label.signed(text, keys.identity()).to_json()
            early: list[Any] = []  # packets of sound before the first frame, which says how large the video is
            wanted = [video] + ([sound.heard] if sound else [])
            for packet in source.demux(wanted):
                if packet.stream.type == "audio" and sound:
                    if stream is None:
                        early.append(packet)
                    else:
                        sound.pass_on(packet)
                    continue
                if packet.stream.type != "video":
                    continue
                for frame in video.decode(packet):
                    frame_HWC = upright(frame)
                    if marker is None:
                        height, width = frame_HWC.shape[:2]
                        marker = Marker(chosen.payload, height=height, width=width, fps=fps, key=chosen.key)
                        stream = _video_stream(out, kind, height, width, fps, video)
                        for held in early:
                            if sound is not None:
                                sound.pass_on(held)
                        early = []
                    if frame_HWC.shape != (height, width, 3):
                        raise VideoError(
                            f"{found.path} changes its size in frame {count}", "cut it there, mark each part"
                        )
                    if words.drawn:
                        frame_HWC = label.draw(frame_HWC[None], words.audience, first=count, shown=shown)[0]
                    marked = marker(frame_HWC[None])
                    taker.add(marked)
                    even = np.pad(marked[0], ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
                    made = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
                    made = made.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
                    stamp = frame.pts if frame.pts is not None and frame.pts > last else last + 1
                    made.pts, made.time_base, last = stamp, video.time_base, stamp
                    out.mux(stream.encode(made))
                    count += 1
            if stream is None:
                raise VideoError(f"{found.path} has no frames in it")
            out.mux(stream.encode())
            if sound is not None:
                sound.close()
    except (ValueError, av.error.FFmpegError) as error:
        if isinstance(error, OSError) and error.errno in (28,):
            raise
        where = f" after {count} frames" if count else ""
        raise VideoError(
            f"{found.path} could not be marked{where}: {getattr(error, 'strerror', None) or error}"
        ) from error


def _video_stream(out: Any, kind: str, height: int, width: int, fps: float, source: Any) -> Any:
    from fractions import Fraction

    name = "libvpx-vp9" if kind == "webm" else "libx264"
    stream = out.add_stream(name, rate=Fraction(fps).limit_denominator(100_000))
    stream.width, stream.height, stream.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
    if kind == "webm":
        stream.options = {"crf": "24", "b": "0", "cpu-used": "4", "row-mt": "1"}
    else:
        stream.options = dict(CODER)
    codec = stream.codec_context
    codec.color_primaries = codec.color_trc = codec.colorspace = BT709
    codec.color_range = LIMITED_RANGE
    codec.time_base = source.time_base
    return stream


def label_file(source: Path, target: Path | None, words: label.Label, *, overwrite: bool = False) -> tuple[Path, str]:
    """Writes an AIGC label into a copy of a file, or into the file itself; returns where, and in which carrier.

    Raises RequestError for a signed file, whose signature the label would break.
    """
    import shutil

    container = containers.sniff(source)
    if container.signable and embedding.has_c2pa(source):
        raise RequestError(
            f"{source} is signed, and a label would break its signature", "sorano mark labels, then signs anew"
        )
    target = target or source.with_name(f"{source.stem}.labelled{source.suffix}")
    if target != source and target.exists() and not overwrite:
        raise RequestError(f"{target} exists and is kept", "use --overwrite, or another name with -o")
    label.check_fields(words)
    with beside(target) as temporary:
        try:
            shutil.copyfile(source, temporary)
            carrier = label.write(temporary, words)
            os.replace(temporary, target)
        except OSError as error:
            raise VideoError(f"{target} cannot be written: {error.strerror}") from error
    return target, carrier


def check_labels(path: Path) -> list[label.Item]:
    """Both regimes, item by item: what a file has of what they ask for."""
    from sorano.trust import roots, verify

    found = media.probe(path)
    items = []
    labels = label.read(path)
    right = next((one for one in labels if not one.problems), None)
    first = right or (labels[0] if labels else None)
    cn, eu = "CN GB 45438-2025", "EU AI Act, Article 50"
    where = f"in {first.carrier}" if first else "none was found"
    items.append(label.Item(cn, "AIGC object in the metadata", "yes" if first else "no", where))
    if first:
        said = "; ".join(first.problems) or f"it {first.says}, producer {first.fields['ContentProducer']!r}"
        items.append(label.Item(cn, "its seven keys, as the standard says", "no" if first.problems else "yes", said))
        holds = label.signature_holds(first.label) if first.label else None
        if holds is not None:
            items.append(label.Item(cn, "ReservedCode1 fits the fields", "yes" if holds else "no", "ES256, by Sorano"))
    items.append(_check_sign(found, cn))
    credential = credentials.read(path, roots.anchors())
    state = "no" if credential is None or credential.state in ("changed", "broken") else "yes"
    said = "none" if credential is None else f"{credential.state}; {credential.kind or 'no kind'}"
    if not found.container.signable:
        said = f"C2PA has no place in {found.container.name} files"
    items.append(label.Item(eu, "signed metadata (1.1.1)", state, said))
    made = credential is not None and credential.kind in ("made", "edited")
    items.append(label.Item(eu, "it says made or edited with AI", "yes" if made and state == "yes" else "no", said))
    eyes = verify.Eyes(found)
    for chunk in media.chunks(found, CONFIRM_SECONDS):
        eyes.add(chunk)
    mark, _, _ = eyes.mark([])
    if mark is not None:
        items.append(label.Item(eu, "imperceptible watermark (1.1.2)", "yes", f"the mark {mark.id:010x}, {mark.kind}"))
    else:
        items.append(
            label.Item(eu, "imperceptible watermark (1.1.2)", "no", "Sorano's mark was not read; others may be there")
        )
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


def _check_sign(found: media.Media, regime: str) -> label.Item:
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


def files_to_ask(places: list[Path]) -> Iterator[Path]:
    """The files that are named, and the media files in folders that are."""
    from sorano.trust.verify import files_in

    for place in places:
        if place.is_dir():
            yield from files_in(place)
        else:
            yield place


__all__ = ["Marked", "Marking", "TrustError", "check_labels", "label_file", "mark_file"]
