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

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sorano.errors import MatchedError, SuspiciousError, TamperedError, TrustError, UnverifiedError, VideoError
from sorano.trust import containers, copies, credentials, keys, roots, sandbox, store
from sorano.trust.copies import Evidence, Stored
from sorano.trust.indicators import Indicator, words
from sorano.trust.marks import SeenMark
from sorano.trust.printable import printable_line

if TYPE_CHECKING:
    from sorano.trust import media as media_module
    from sorano.trust.label import Found
    from sorano.trust.tamper import Region, TamperMap
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
class Look:
    """Everything that was seen of a file; `judge` turns it into a report and sees nothing else."""

    path: str
    credential: credentials.Credential | None = None
    labels: tuple[Found, ...] = ()
    mark: SeenMark | None = None
    stored: tuple[Stored, ...] = ()
    regions: tuple[Region, ...] = ()
    indicators: tuple[Indicator, ...] = ()
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
    regions: tuple[Region, ...] = ()
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
        words["part"] = None if found["part"] is None else tuple(found["part"])
        if found["regions"]:
            from sorano.trust.tamper import Region

            words["regions"] = tuple(Region(**{**one, "box": tuple(one["box"])}) for one in found["regions"])
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
) -> tuple[Report, TamperMap | None]:
    """The report on a file and, with `with_map`, its tamper map where one was made. The file is read in a child."""
    sandbox.require_regular(path)
    words = {
        "path": str(path),
        "trust": None if trust is None else str(trust),
        "stores": [str(folder) for folder in stores],
        "bundle": None if bundle is None else str(bundle),
        "with_map": with_map,
    }
    found, arrays = sandbox.run("sorano.trust.verify:examine_here", words)
    report = Report.from_dict(found["report"])
    if found["times"] is None:
        return report, None
    from sorano.trust.tamper import TamperMap

    starts, ends = (tuple(times) for times in found["times"])
    return report, TamperMap(arrays["map_THW"], starts, ends, report.regions)


def examine_here(
    path: str, trust: str | None, stores: Sequence[str], bundle: str | None, with_map: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What `examine` runs in the child: the report as JSON, the times of the map's windows, and the map."""
    private = None if bundle is None else Path(bundle)
    seen, shown = look(Path(path), trust=trust, stores=stores, bundle=private, with_map=with_map)
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
) -> tuple[Look, Any]:
    """Everything that can be seen of a file, and its tamper map (None where none was made), for a page to show.

    Where a signed fingerprint answers for what is shown, a map says less, and is made only on request (`with_map`).
    """
    from sorano.trust import label, media

    anchors = roots.anchors(Path(trust) if trust is not None else None)
    notes: list[str] = []
    # (1) The bytes: does a credential bind them?
    try:
        found = media.probe(path)
    except VideoError as error:
        return _look_at_bytes(path, anchors, error), None
    credential = credentials.read(path, anchors)
    try:
        labels = tuple(label.read(path))
    except VideoError as error:
        labels, notes = (), [*notes, f"its metadata cannot be read: {error.message}"]
    carriers = _carriers(credential, bundle, anchors)
    # (2) The frames: one pass for the mark, the fingerprint and the indicators.
    eyes = Eyes(found)
    eyes.watch(notes, damaged=credential is not None and credential.state in ("changed", "broken"))
    mark, detection, key = eyes.mark(carriers, notes, thorough=credential is None)
    # (3) The manifest that the mark's id finds, for a copy that lost its own.
    stored: list[Stored] = []
    if credential is None and mark is not None:
        stored = _stored(eyes, mark, detection, [Path(folder) for folder in stores], anchors, notes)
    # (4) Holes in the mark, where no signature vouches for every byte and no signed fingerprint answers.
    regions: tuple[Region, ...] = ()
    shown = None
    bound = credential is not None and credential.state in credentials.WHOLE
    answered = copies.answers(copies.likeliest(stored, mark))
    if detection is not None and not bound and not found.is_image and (with_map or not answered):
        shown, regions = _holes(found, detection, key)
    # (5) What is odd, where nothing at all vouches for it.
    odd: list[Indicator] = []
    if credential is None and mark is None and not found.is_image:
        odd = _odd(found, eyes, labels, notes)
    seen = Look(
        path=str(path),
        credential=credential,
        labels=labels,
        mark=mark,
        stored=tuple(stored),
        regions=regions,
        indicators=tuple(odd),
        map_checked=shown is not None,
        map_reach=None if shown is None else shown.reach,
        beside=_beside(found, eyes) if stored else (),
        media=_facts(found),
        notes=tuple(notes),
    )
    return seen, shown


def _stored(
    eyes: Eyes, mark: SeenMark, detection: Any, folders: list[Path], anchors: str, notes: list[str]
) -> list[Stored]:
    """The manifests that a mark's id finds, compared with what was seen and is heard now."""
    eyes.listen(notes)
    hint = (detection.scale, detection.flipped)
    return copies.find(mark, folders, anchors, eyes.taker.stored(), notes, hint)


def _facts(found: media_module.Media) -> dict[str, Any]:
    """What a report says of the file itself."""
    return {
        "size": f"{found.width}x{found.height}",
        "fps": round(found.fps, 3),
        "seconds": found.seconds,
        "codec": found.codec,
        "container": found.container.name,
    }


def _look_at_bytes(path: Path, anchors: str, error: VideoError) -> Look:
    """What can be seen of a file without pictures that can be decoded: its credential and its labels.

    Raises `error` again where it should have pictures and nothing else vouches for it.
    """
    from sorano.trust import label

    if not path.is_file() or path.stat().st_size == 0:
        raise error
    container = containers.sniff(path)
    credential = credentials.read(path, anchors)
    if credential is None and (container.has_pictures or not container.readable):
        raise error
    notes = [error.message if container.has_pictures else "there are no pictures in it in which a mark could be"]
    labels: tuple[Found, ...] = ()
    try:
        labels = tuple(label.read(path))
    except VideoError as damage:  # stray bytes behind the last box, say: the credential knows more
        notes.append(f"its metadata cannot be read: {damage.message}")
    facts = {"container": container.name}
    return Look(path=str(path), credential=credential, labels=labels, media=facts, notes=tuple(notes))


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


class Eyes:
    """What a single pass over the frames remembers, in constant memory."""

    def __init__(self, found: media_module.Media) -> None:
        from sorano.trust import fingerprint, reader

        self.found = found
        self.fps = found.fps if found.fps > 0 else 25.0
        self.taker = fingerprint.Taker(
            self.fps,
            still=found.is_image and not found.is_animated,
            picture_seconds=0,
            most_pictures=MOST_PICTURES,
            most_frames=MOST_FRAMES,
        )
        self.kept = reader.Kept()
        self.count = 0
        self.complete = True  # whether all of the file was seen
        self.brief = 0  # frames that are shown for less than a screen's refresh

    def watch(self, notes: list[str], *, damaged: bool) -> None:
        """All frames. Raises VideoError where none can be decoded, unless the file is known to be `damaged`."""
        from sorano.trust import media

        try:
            for picture in ahead(media.pictures_of(self.found)):
                self.add_picture(picture)
        except VideoError as error:
            if not self.count and not damaged:
                raise
            self.complete = False
            notes.append(error.message)

    def add(self, shown: media_module.Shown) -> None:
        """The next frames."""
        from sorano.trust import media

        for frame, start, end in zip(shown.frames_THWC, shown.starts_T.tolist(), shown.ends_T.tolist(), strict=True):
            self.add_picture(media.Picture(frame, start, end))

    def add_picture(self, picture: media_module.Picture) -> None:
        """The next frame."""
        self.taker.add(picture.frame_HWC[None], [picture.start], picture.end)
        self.kept.add(picture.frame_HWC)
        self.count += 1
        self.brief += (picture.end - picture.start < copies.BRIEF_SECONDS) and not self.found.is_image

    def listen(self, notes: list[str]) -> None:
        """The sound, for the fingerprint; nothing is known of it where it cannot be decoded."""
        from sorano.trust import media

        try:
            self.taker.listen(media.sound(self.found))
        except (TrustError, VideoError) as error:
            notes.append(error.message)

    def mark(
        self, carriers: Sequence[keys.Carrier], notes: list[str] | None = None, *, thorough: bool = True
    ) -> tuple[SeenMark | None, Any, bytes]:
        """The mark under the first key that finds one: all keys as if nothing were cut, then a search with a few.

        A search that would take the time that is left ends, and a note says so: what was seen still counts.
        """
        from sorano.trust import watermark

        def has_time() -> bool:
            return sandbox.time_left() > LEAST_SECONDS_LEFT

        tried: list[keys.Carrier | None] = [None, *carriers]
        rounds = [(tried, False)] + ([(tried[: 1 + MOST_SEARCHED], True)] if thorough else [])
        for some, search in rounds:
            for carrier in some:
                key = watermark.PUBLIC_KEY if carrier is None else carrier.key
                detection = watermark.read(
                    self.kept, fps=self.fps, key=key, thorough=search, again=search, has_time=has_time
                )
                if detection is not None:
                    return seen_mark(detection, carrier), detection, key
        if thorough and notes is not None and not has_time():
            notes.append("the search for a mark ended for want of time; SORANO_LOOK_SECONDS gives it more")
        return None, None, watermark.PUBLIC_KEY


def _beside(found: media_module.Media, eyes: Eyes) -> tuple[str, ...]:
    """Why what was compared may not be all that players show."""
    try:
        return copies.beside(found, copies.opaque(found), eyes.complete and eyes.taker.stride == 1, eyes.brief)
    except VideoError as error:
        return (error.message,)


def seen_mark(detection: Any, carrier: keys.Carrier | None) -> SeenMark | None:
    """A detection in a report's words."""
    if detection is None:
        return None
    payload = detection.payload
    own, commitment = (carrier.id, carrier.commitment) if carrier is not None else (None, None)
    slots = (detection.slots_read, detection.slots)
    return SeenMark(payload.kind, payload.id, round(float(detection.confidence), 1), own, commitment, slots)


def _carriers(credential: credentials.Credential | None, bundle: Path | None, anchors: str) -> list[keys.Carrier]:
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


def _holes(found: media_module.Media, detection: Any, key: bytes) -> tuple[TamperMap, tuple[Region, ...]]:
    """The tamper map and its regions. Frames of another size, in a stream that changes it, are scaled to the mark's."""
    import cv2
    import numpy as np

    from sorano.trust import media, tamper

    def scaled(frames_THWC: Frames) -> Frames:
        if frames_THWC.shape[1:3] == detection.size:
            return frames_THWC
        size = detection.size[::-1]
        return np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames_THWC])

    shown = tamper.tamper_map((scaled(part.frames_THWC) for part in media.shown(found)), detection, key)
    return shown, shown.regions


def _odd(found: media_module.Media, eyes: Eyes, labels: Sequence[Found], notes: list[str]) -> list[Indicator]:
    from sorano.trust import fingerprint, indicators

    odd = indicators.of_frames(fingerprint.thumbs_of(eyes.taker.stored())) + indicators.of_metadata(
        found.tags, bool(labels)
    )
    try:
        odd += indicators.of_stream(found.path)
    except VideoError as error:
        notes.append(error.message)
    return odd


# The verdict.


def judge(seen: Look) -> Report:
    """The report that follows from what was seen: no file is opened here."""
    evidence: list[Evidence] = []
    verdict, summary, signer, kind = (
        Verdict.UNVERIFIED,
        "nothing that is trusted here says where it is from",
        None,
        None,
    )
    credential = seen.credential
    copied = copies.likeliest(seen.stored, seen.mark)
    said = None if copied is None else copies.verdict(copied, seen.beside, copied.credential.signer or "somebody")
    if credential is not None:
        evidence.append(_of_credential(credential))
    evidence += seen.more
    if seen.mark is not None:
        evidence.append(_of_mark(seen.mark, credential))
    elif credential is not None and credential.mark_id is not None and credential.state in ("trusted", "valid"):
        evidence.append(_of_lost_mark(credential))
    evidence += [copies.evidence(one, seen.mark) for one in seen.stored]
    if seen.map_checked:
        evidence.append(_of_map(seen.regions, seen.map_reach))
    evidence += [_of_label(one) for one in seen.labels]
    if seen.indicators:
        evidence.append(_of_indicators(seen.indicators))
    part = None
    if credential is not None and credential.state in ("changed", "broken"):
        verdict = Verdict.TAMPERED
        summary = "it was changed after it was signed" if credential.state == "changed" else "its credential is damaged"
    elif credential is not None and credential.state == "trusted":
        verdict, signer, kind = Verdict.VERIFIED, credential.signer, credential.kind
        summary = f"it is as {signer} signed it, {_says(kind)}"
    elif copied is not None and said is not None:
        verdict, summary = Verdict(said[0]), said[1]
        if verdict is Verdict.MATCHED:
            summary += _unread(seen.mark)
            signer, kind = copied.credential.signer, copied.credential.kind
            part = copied.match.part if copied.match else None
    elif seen.regions:
        verdict, summary = Verdict.SUSPICIOUS, f"nothing trusted says where it is from, and {_put_over(seen.regions)}"
    elif credential is not None:
        who = credential.signer or "somebody"
        summary = {
            "ended": f"the certificate of {who} has ended and no time stamp says that it was signed before",
            "early": f"the certificate of {who} is not valid yet: a clock is wrong, here or there",
        }.get(credential.state, f"it is signed by {who}, who is not trusted here")
    elif seen.mark is not None:
        made = "made by AI, by Sorano" if seen.mark.kind == "made" else "recorded with Sorano"
        summary = f"it carries a mark that says {made}, and nothing that is trusted here confirms it"
        if seen.stored:
            summary = "its mark is that of another picture, or its signer is not trusted here"
    elif seen.indicators and not seen.labels:
        verdict, summary = Verdict.SUSPICIOUS, f"nothing says where it is from, and {words(seen.indicators)}"
    elif seen.indicators:
        verdict, summary = Verdict.SUSPICIOUS, words(seen.indicators)
    elif seen.labels:
        summary = f"a label that anyone can write says that it {seen.labels[0].says}"
    if not evidence:
        evidence.append(
            Evidence(
                "provenance",
                "no credential, no mark and no label",
                "nothing",
                "that it is false: most files carry none, and many programs remove what there was",
                "ask the sender for the original file, or for who made it",
            )
        )
    mark_id = seen.mark.id if seen.mark is not None else credential.mark_id if credential is not None else None
    return Report(
        path=seen.path,
        verdict=verdict,
        summary=printable_line(summary),
        evidence=tuple(Evidence(*map(printable_line, vars(one).values())) for one in evidence),
        signer=signer,
        kind=kind,
        mark_id=None if mark_id is None else store.name_of(mark_id),
        part=part,
        regions=(*_differing(copied), *seen.regions),
        notes=tuple(map(printable_line, seen.notes)),
        media=seen.media,
        root=None if credential is None else credential.root,
        signed_at=None if credential is None else credential.signed_at,
    )


def _unread(mark: SeenMark | None) -> str:
    """That a copy's mark was not read everywhere: coarse coding does that, and so do pictures that were put in."""
    if mark is None or mark.slots is None or mark.slots[0] == mark.slots[1]:
        return ""
    return f"; the mark was read in {mark.slots[0]} of {mark.slots[1]} parts of two seconds"


def _put_over(regions: Sequence[Region]) -> str:
    return f"something was put over the mark in {len(regions)} place{'s'[: len(regions) > 1]}"


def _differing(copied: Stored | None) -> tuple[Region, ...]:
    """Where a copy differs from what was signed, for the page."""
    from sorano.trust.tamper import Region

    changes = () if copied is None or copied.match is None else copied.match.changes
    whole = (0.0, 0.0, 1.0, 1.0)
    return tuple(Region(one.start_s, one.end_s, one.box or whole, one.score) for one in changes if one.kind != "sound")


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


def _of_mark(mark: SeenMark, credential: credentials.Credential | None) -> Evidence:
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


def _of_lost_mark(credential: credentials.Credential) -> Evidence:
    private = credential.carrier_id is not None
    return Evidence(
        "mark",
        f"the mark {store.name_of(credential.mark_id or 0)} that the credential names was not read",
        "nothing: " + ("its carrier is private" if private else "small or plain pictures may not hold one"),
        "that it was removed: the bytes are as they were signed",
        "ask the signer to disclose the carrier: sorano keys disclose" if private else "",
    )


def _of_map(regions: Sequence[Region], reach: float | None) -> Evidence:
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


def _of_label(one: Found) -> Evidence:
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


def files_in(place: Path) -> Iterator[Path]:
    """The media files of a folder and its folders, sorted."""
    yield from sorted(file for file in place.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())


__all__ = ["Evidence", "Look", "Report", "Verdict", "containers", "examine", "judge", "look", "verify"]
