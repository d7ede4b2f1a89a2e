"""How a file leaves: marked, labelled, signed last, and read back before anybody gets it.

The order is mark, encode, faststart, AIGC label, C2PA signature, confirm. `generate` and `sorano mark` share these
steps. A signature that does not hold is an error and the file is withheld; a mark that cannot be read is recorded.

Not covered: audio, which only `sorano mark --mark-audio` marks; frames smaller than a carrier's tile may be too small
for a mark that reads; what leaves memory otherwise (`Video.frames_THWC` in Python is not marked: `Video.save` marks
what it writes).
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sorano.errors import TrustError
from sorano.trust.copies import fingerprint
from sorano.trust.provenance import credentials, keys, label, roots, store
from sorano.trust.watermark.marks import audio_payload

if TYPE_CHECKING:
    import numpy as np

    from sorano.trust.report import Report
    from sorano.trust.watermark.marks import DetectedAudioMark, DetectedMark
    from sorano.video import Frames

ID_BITS = 40
FEW_FRAMES = 8  # of a clip, for a first look at the mark
CLEAR_SHARE = 0.9  # of the code's bits
PAYLOAD_VERSION = 1


@dataclass(frozen=True)
class Mark:
    """The mark that frames get: what they are, the id that finds their manifest, and a private carrier or none."""

    kind: str  # made, captured
    id: int
    carrier: keys.WatermarkKey | None = None

    @property
    def key(self) -> bytes:
        """The carrier's key: private, or the public one."""
        from sorano.trust.watermark.payload import PUBLIC_KEY

        return PUBLIC_KEY if self.carrier is None else self.carrier.key

    @property
    def audio_payload(self) -> int:
        """What the audio says."""
        return audio_payload(self.id)

    @property
    def carriers(self) -> list[keys.WatermarkKey]:
        """The private carrier, where there is one."""
        return [] if self.carrier is None else [self.carrier]

    def is_heard(self, heard: DetectedAudioMark | None) -> bool:
        """Whether a mark that was read in audio is this one's."""
        return heard is not None and heard.payload == self.audio_payload

    @property
    def payload(self) -> Any:
        """What the frames say."""
        from sorano.trust.watermark.payload import Payload

        return Payload(PAYLOAD_VERSION, self.kind, self.id)


def id_of(content: np.ndarray, *shown_as: object) -> int:
    """An id that follows from the content (frames, or the latent that they come from) and how it is shown.

    So the same request gives the same file to the last pixel.
    """
    digest = hashlib.sha256(f"sorano mark 1\0{content.shape} {shown_as}\0".encode())
    digest.update(content.tobytes())
    return int.from_bytes(digest.digest()[: ID_BITS // 8], "big")


def new_id() -> int:
    """An id for frames that are not known yet."""
    return secrets.randbits(ID_BITS)


def mark(frames_THWC: Frames, fps: float, kind: str = "made", *, is_image: bool = False) -> tuple[Frames, Mark]:
    """Marked frames of a clip at hand, or of one picture, and their mark."""
    from sorano.trust.watermark.embed import mark_frames, mark_image

    chosen = Mark(kind, id_of(frames_THWC, fps))
    if is_image:
        return mark_image(frames_THWC[0], chosen.payload, key=chosen.key)[None], chosen
    return mark_frames(frames_THWC, chosen.payload, fps=fps, key=chosen.key), chosen


def finish(
    path: Path,
    chosen: Mark,
    prints: fingerprint.Fingerprint | None,
    signer: keys.Identity,
    *,
    kind: str,
    title: str | None = None,
    record: Mapping[str, Any] | None = None,
    ingredients: Iterable[credentials.Ingredient] = (),
    producer: str = "Sorano",
    passed_on: label.Label | None = None,
) -> bytes:
    """Labels and signs an encoded file in place, keeps the manifest under the mark's id, and returns it.

    `passed_on` is the label of the file that it was made from: its producer stays, ours is named as who passed it on.
    """
    if kind != "captured":
        label.write(path, label_of(chosen, producer, signer, passed_on))
    statement = credentials.Statement(
        kind=kind,
        title=title,
        mark_id=chosen.id,
        carrier=chosen.carrier,
        fingerprint=None if prints is None else prints.to_bytes(),
        record=record or {},
        ingredients=tuple(ingredients),
    )
    return credentials.sign(path, statement, signer)


def label_of(chosen: Mark, producer: str, signer: keys.Identity, passed_on: label.Label | None = None) -> label.Label:
    """The AIGC label of a file that gets a mark: a new one, or that of its source with us as propagator."""
    number = f"sorano-{store.name_of(chosen.id)}"
    if passed_on is not None:
        return replace(passed_on, propagator=producer, propagate_id=number)
    return label.signed(label.Label(producer=producer, produce_id=number), signer)


def confirm(
    path: Path,
    chosen: Mark,
    signer: keys.Identity,
    frames: Iterable[Frames],
    fps: float,
    audio_mark: DetectedAudioMark | None = None,
) -> Report:
    """Reads a finished file back. Raises TrustError where its signature does not hold; a lost mark is in the report."""
    from sorano.trust.judge import Observations, judge

    own = roots.Trust.from_pem(keys.to_pem(keys.certificates(signer.chain_pem, "the signer's chain")[-1]))
    found = credentials.read(path, roots.Trust.of([*roots.anchors().anchors, *own.anchors]))
    if found is None or found.state not in ("trusted", "valid") or found.mark_id != chosen.id:
        state = "missing" if found is None else found.state
        said = "; ".join(text for _, text in found.problems) if found is not None else ""
        raise TrustError(f"{path} was signed, but reading it back found its signature {state} {said}".rstrip())
    read = read_mark(chosen, frames, fps)
    return judge(
        Observations(path=str(path), credential=found, labels=tuple(label.read(path)), mark=read, audio_mark=audio_mark)
    )


def read_mark(chosen: Mark, frames: Iterable[Frames], fps: float) -> DetectedMark | None:
    """The mark that the frames were given, where it reads back.

    What was just written is known, so a look at a few frames comes first: where nine in ten of the code's bits are
    right, any decoder reads the word (it corrects one in four). Otherwise it is decoded like a stranger's.
    """
    import numpy as np

    from sorano.trust.scan import seen_mark
    from sorano.trust.watermark import detect, marks, payload, search
    from sorano.trust.watermark.pattern import carrier

    kept, few = search.Kept(), search.Kept()
    for chunk in frames:
        for frame in chunk:
            if len(kept.frames) % 2 == 0 and len(few.frames) < FEW_FRAMES:
                few.add(frame)
            kept.add(frame)
    if not kept.frames:
        return None
    source = carrier(chosen.key)
    grid = search.usual_grid(few)
    tiles = search.tiles_of(few, grid, search.level_of(grid.chip))
    tile = search.combined(tiles, search.weights(tiles, source.sync_tile()))
    word = payload.CODE.encode(chosen.payload.bits())
    if float(np.mean((source.soft_bits(tile) < 0) == word.astype(bool))) >= CLEAR_SHARE:
        own = (chosen.carrier.id, chosen.carrier.commitment) if chosen.carrier is not None else (None, None)
        return marks.DetectedMark(chosen.kind, chosen.id, round(search.score_of(tile, source.tile(word)), 1), *own)
    seen = seen_mark(detect.read(kept, fps=fps, key=chosen.key, thorough=False), chosen.carrier)
    return seen if seen is not None and seen.id == chosen.id else None


def remember(chosen: Mark, manifest: bytes) -> None:
    """Keeps a manifest in one's own store, so that copies which lose theirs are still found."""
    store.put(chosen.id, manifest)
