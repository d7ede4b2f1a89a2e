"""Sealing what was made: visible label, watermark and fingerprint chunk by chunk; then metadata, signature, proof.

    out = Outgoing(request, fps=12, num_frames=17, mark_id=...)
    marked = [out(chunk) for chunk in chunks]        # constant memory
    report = out.seal(file, record, name)            # once they are encoded

Every file goes through here (`generate`, films, sheets of pictures), and nothing gets its name before it was read back.

Covered: that every file that is made is marked, labelled and signed, and that what was written is what was meant.

Not covered: recordings of the user's own (`sorano.trust.record`), and what others do to a file afterwards.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sorano.errors import VideoError
from sorano.frames import BLACK
from sorano.request import Request
from sorano.video import (
    IMAGE_SUFFIXES,
    SQUARE,
    check_target,
    contact_sheet,
    read_image,
    read_metadata,
    record_text,
    whole_or_nothing,
    write_image,
    writing,
)

if TYPE_CHECKING:
    from sorano.trust.copies.fingerprint import Fingerprint
    from sorano.trust.provenance.credentials import Ingredient
    from sorano.trust.release import Mark
    from sorano.trust.report import Report
    from sorano.video import Frames

MOVING = ("mp4", "matroska", "avi", "other")  # containers of video
# What each kind of file is coded in, and whether it has a frame for each frame.
CODED = {".mp4": ("h264", True), ".webm": ("vp9", True), ".gif": ("gif", False), ".webp": ("webp", False)}
NO_SIGNATURE = "C2PA has no place in WebM: it is marked and labelled, not signed; -o NAME.mp4 for all three"
FEW_COLOURS = "a GIF has 256 colours a frame: MP4 and WebP show more"


class Outgoing:
    """Frames on their way out."""

    def __init__(self, request: Request, *, fps: float, num_frames: int, mark_id: int) -> None:
        from sorano.trust import release
        from sorano.trust.copies import fingerprint
        from sorano.trust.provenance import keys, label

        self.request, self.fps, self.num_frames = request, fps, num_frames
        self.signer = keys.identity()
        self.mark = release.Mark("made", mark_id)
        self.fingerprinter = fingerprint.FingerprintBuilder(fps)
        self.shown = label.sign_frames(num_frames, fps, request.audience) if visible_label(request) else 0
        self.kind = kind_of(given_files(request))
        self.size = (0, 0)  # height and width
        self._marker: Any = None
        self.count = 0

    def __call__(self, frames_THWC: Frames) -> Frames:
        """The next frames, labelled where they should be seen to be, and marked."""
        from sorano.trust.provenance import label
        from sorano.trust.watermark.embed import Marker

        if self.shown is None or self.shown > self.count:
            words = self.request.audience
            frames_THWC = label.draw(frames_THWC, words, first=self.count, shown=self.shown, kind=self.kind)
        if self._marker is None:
            self.size = frames_THWC.shape[1:3]
            height, width = self.size
            self._marker = Marker(self.mark.payload, height=height, width=width, fps=self.fps, key=self.mark.key)
        marked: Frames = self._marker(frames_THWC)
        self.fingerprinter.add(marked)
        self.count += len(marked)
        return marked

    def seal(self, temporary: Path, record: dict[str, Any], name: Path) -> Report:
        """Labels and signs an encoded file under its temporary name, reads it back, and remembers its manifest.

        A WebM got its label when it was encoded, and C2PA has no place in it: its mark and label are read back. Raises
        VideoError where it is not what was meant, TrustError where its signature does not hold.
        """
        from sorano.trust import media, release
        from sorano.trust.judge import Observations, judge
        from sorano.trust.provenance import label

        has_sound = name.suffix.lower() == ".mp4"
        self.fingerprinter.listen(media.sound(media.probe(temporary)) if has_sound else [])
        if name.suffix.lower() == ".webm":
            seen = release.read_mark(self.mark, self._read_back(temporary, record, name), self.fps)
            return judge(Observations(str(name), labels=tuple(label.read(temporary)), mark=seen))
        manifest = signed(self.request, temporary, self.mark, self.fingerprinter.stored(), record)
        frames = self._read_back(temporary, record, name)
        report = release.confirm(temporary, self.mark, self.signer, frames, self.fps)
        release.remember(self.mark, manifest)
        return replace(report, path=str(name))

    def _read_back(self, path: Path, record: dict[str, Any], name: Path) -> Iterator[Frames]:
        """The frames of the finished file. Raises VideoError at their end where it is not what was meant."""
        from sorano.trust import media

        found = media.probe(path)
        coded, is_exact = CODED[name.suffix.lower()]
        height, width = (side + side % 2 for side in self.size)
        sizes = [(height, width)] + ([self.size] if is_animation(name) else [])  # H.264 and VP9 are of even sizes
        problems, count, brightest = [], 0, 0
        for chunk in media.chunks(found):
            yield chunk
            count, brightest = count + len(chunk), max(brightest, int(chunk.max()))
        # animations hold equal frames once, for as long as all of them
        right = count == self.count if is_exact else 0 < count <= self.count
        if not right or (found.height, found.width) not in sizes:
            problems.append(
                f"{count} frames of {found.width}x{found.height} instead of {self.count} of {width}x{height}"
            )
        seconds = self.count / self.fps
        if not is_exact and found.seconds is not None and abs(found.seconds - seconds) > 1 / self.fps:
            problems.append(f"{found.seconds:.3f} s instead of {seconds:.3f} s")
        if found.codec != coded or is_exact and found.pixel_format != "yuv420p":
            problems.append(f"{found.codec} {found.pixel_format} instead of {coded} yuv420p")
        if read_metadata(path) != record:
            problems.append("another record than was written")
        if brightest <= BLACK:
            problems.append("black frames")
        if problems:
            raise VideoError(f"{name} was written, but reading it back gave {'; '.join(problems)}")

    def tags(self, record: dict[str, Any]) -> dict[str, str]:
        """What a WebM says of itself: title, record and AIGC label."""
        from sorano.trust import release
        from sorano.trust.provenance import label

        title = title_of(self.request)
        said = release.label_of(self.mark, self.request.producer, self.signer).to_json()
        return {**({"title": title} if title else {}), "comment": record_text(record), label.KEY: said}

    def state(self) -> dict[str, Any]:
        """What the next frames depend on, as arrays and numbers, for a run that goes on later."""
        return {
            "count": self.count,
            "size": list(self.size),
            "taker": self.fingerprinter.state(),
            "marker": {} if self._marker is None else self._marker.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from a `state`."""
        from sorano.trust.watermark.embed import Marker

        self.count, self.size = state["count"], tuple(state["size"])
        self.fingerprinter.restore(state["taker"])
        if not state["marker"]:
            return
        height, width = self.size
        self._marker = Marker(self.mark.payload, height=height, width=width, fps=self.fps, key=self.mark.key)
        self._marker.restore(state["marker"])


def write_signed(
    request: Request,
    chunks: Iterable[Frames],
    target: Path,
    *,
    fps: float,
    num_frames: int,
    mark_id: int,
    record: dict[str, Any],
    overwrite: bool,
    aspect: Fraction = SQUARE,
) -> Report:
    """Marks, encodes, labels, signs and confirms a video whose frames come in `chunks`; then it gets its name."""
    out = Outgoing(request, fps=fps, num_frames=num_frames, mark_id=mark_id)
    with signing(out, target, overwrite=overwrite, aspect=aspect) as sink:
        for chunk_THWC in chunks:
            sink.put(out(chunk_THWC))
        sink.record = record
    return sink.reports[0]


@dataclass
class Signing:
    """A file that is being written: `put` takes its frames; `reports` has the one on it when that is done.

    `record` is what the file says of itself; it is read when the block ends, for it may hold what the run took.
    """

    put: Callable[[Frames], None]
    record: dict[str, Any] = field(default_factory=dict)
    reports: list[Report] = field(default_factory=list)


@contextmanager
def signing(
    out: Outgoing,
    target: Path,
    *,
    overwrite: bool,
    aspect: Fraction = SQUARE,
) -> Iterator[Signing]:
    """A writer of frames that went through `out`; the file is sealed, and gets its name, when the block ends well."""
    if target.suffix.lower() != ".mp4":
        held: list[Frames] = []  # the record, which goes before the frames, is known when the last one has come
        sink = Signing(held.append)
        check_target(target, overwrite=overwrite)
        with whole_or_nothing(target, overwrite=overwrite) as temporary:
            yield sink
            encode(temporary, target, held, out, sink.record)
            sink.reports.append(out.seal(temporary, sink.record, target))
        return

    def finish(temporary: Path) -> None:
        sink.reports.append(out.seal(temporary, sink.record, target))

    with writing(target, out.fps, overwrite=overwrite, finish=finish, aspect=aspect) as writer:
        sink = Signing(writer.put)
        yield sink
        writer.label(sink.record, title_of(out.request))


def is_animation(target: Path) -> bool:
    """Whether a file is a picture that moves."""
    return target.suffix.lower() in (".gif", ".webp")


def encode(temporary: Path, target: Path, chunks: Iterable[Frames], out: Outgoing, record: dict[str, Any]) -> None:
    """Encodes marked frames as `target`'s suffix asks (GIF, WebP, WebM)."""
    from sorano.media import write

    if is_animation(target):
        write.animation(temporary, target.suffix.lower(), list(chunks), out.fps, record_text(record))
    else:
        write.webm(temporary, list(chunks), out.fps, out.tags(record))


def convert(source: Path, temporary: Path, target: Path, out: Outgoing, record: dict[str, Any]) -> list[str]:
    """Encodes a whole MP4 of marked frames as `target`'s suffix asks; returns what is lost, in words."""
    from sorano.media import read, recode

    found = read.probe(source)
    if target.suffix.lower() == ".webm":
        return recode.recode(found, temporary, "webm", lambda frames_THWC, *_: frames_THWC, out.tags(record)).notes
    encode(temporary, target, read.chunks(found), out, record)
    return ["its sound is left out: this kind of file has none"] if found.has_audio else []


def write_signed_sheet(
    request: Request, frames_THWC: Frames, target: Path, *, fps: float, record: dict[str, Any], overwrite: bool
) -> Report:
    """The same for the picture of evenly spaced frames, or of the only one."""
    from sorano.trust import release
    from sorano.trust.copies import fingerprint
    from sorano.trust.provenance import keys, label

    signer = keys.identity()
    if visible_label(request):
        frames_THWC = label.draw(frames_THWC, request.audience, kind=kind_of(given_files(request)))
    sheet = frames_THWC[0] if len(frames_THWC) == 1 else contact_sheet(frames_THWC)
    frames_THWC, chosen = release.mark(sheet[None], fps, is_image=True)
    reports: list[Report] = []

    prints = fingerprint.take(frames_THWC, fps, still=True)

    def finish(temporary: Path) -> None:
        manifest = signed(request, temporary, chosen, prints, record)
        report = release.confirm(temporary, chosen, signer, [read_image(temporary)[None]], fps)
        release.remember(chosen, manifest)
        reports.append(replace(report, path=str(target)))

    write_image(target, frames_THWC[0], overwrite=overwrite, finish=finish)
    return reports[0]


def marked_preview(request: Request, frame_HWC: Frames, mark_id: int) -> Frames:
    """A marked copy of a preview picture [H, W, 3], with the sign where the video gets it.

    It is not signed: it is of a file that is not there yet, and its id leads to no manifest.
    """
    from sorano.trust import release
    from sorano.trust.provenance import label
    from sorano.trust.watermark.embed import mark_image

    if visible_label(request):
        frame_HWC = label.draw(frame_HWC[None], request.audience, kind=kind_of(given_files(request)))[0]
    chosen = release.Mark("made", mark_id)
    return mark_image(frame_HWC, chosen.payload, key=chosen.key)


def signed(request: Request, path: Path, chosen: Mark, prints: Fingerprint, record: dict[str, Any]) -> bytes:
    """Labels and signs an encoded file; returns the manifest. A video made from another is an edit of that."""
    from sorano.trust import release
    from sorano.trust.provenance import keys, label, store

    ingredients = given_files(request)
    words = signed_record(request, record)
    said = label.disclosure(
        request.audience,
        provider=request.producer,
        system=f"Sorano, model {words['model']['name']}",
        version=str(record.get("sorano", "")),
        mark_id=store.name_of(chosen.id),
    )
    return release.finish(
        path,
        chosen,
        prints,
        keys.identity(),
        kind=kind_of(ingredients),
        title=title_of(request) or "video",
        record={**words, **({"disclosure": said} if said else {})},
        ingredients=ingredients,
        producer=request.producer,
    )


def kind_of(ingredients: Iterable[Ingredient]) -> str:
    """What a file says of itself: edited where one of its ingredients is its parent, else made."""
    return "edited" if any(one.relationship == "parentOf" for one in ingredients) else "made"


def visible_label(request: Request) -> bool:
    """Whether the sign "AI-generated" is drawn: as asked, else as the audience's law has it."""
    from sorano.trust.provenance import label

    return label.is_drawn(request.audience, request.visible_label)


def signed_record(request: Request, record: dict[str, Any]) -> dict[str, Any]:
    """What the credential says of a run: digests of the request and of the model; the prompt only if it may be told.

    The model's digest is that of its files' digests, which are there too, with those of what was merged into it.
    """
    from sorano.files import canonical

    preset = record["preset"]
    model = {"name": preset["name"], "sha256": hashlib.sha256(canonical(preset["sha256"])).hexdigest()}
    if isinstance(preset["sha256"], dict):
        model["files"] = dict(preset["sha256"])
    if record.get("loras"):
        model["loras"] = record["loras"]
    return {
        "request": {"sha256": hashlib.sha256(canonical(record["request"])).hexdigest()},
        "model": model,
        **({} if request.private else {"prompt": request.prompt}),
    }


def given_files(request: Request) -> list[Ingredient]:
    """The files that a video was made of, as its credential names them, each with its own manifest.

    The first video among them is its parent: its own frames, or what they showed, are in it. A private request hides
    their names, never that they are there or what they say of their origin; a file that is gone by now is named alone.
    """
    from sorano.trust.provenance.containers import sniff
    from sorano.trust.provenance.credentials import Ingredient

    named: list[Ingredient] = []
    for index, file in enumerate(request.files):
        moves = sniff(file).name in MOVING if file.is_file() else file.suffix.lower() not in IMAGE_SUFFIXES
        first_video = moves and all(one.relationship != "parentOf" for one in named)
        title = f"input {index + 1}" if request.private else file.name
        named.append(Ingredient(file, "parentOf" if first_video else "inputTo", title))
    return named


def title_of(request: Request) -> str | None:
    """The prompt, unless the request is private."""
    return None if request.private else request.prompt[:200]
