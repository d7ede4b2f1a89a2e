"""Labels that laws ask for, by audience: China (GB 45438-2025), the EU (Article 50), India, California (SB 942).

`REGIMES` is the one table of what each audience gets: the words of the visible sign, whether it is drawn unless told
otherwise, and whether the manifest names provider, system, version, time and id.

The AIGC object has seven keys, all texts, in the file's own metadata: `moov/udta/meta/keys` of MP4, tEXt of PNG, XMP of
JPEG and WebP, a RIFF chunk of WAV, TXXX of MP3, a tag of Matroska. ReservedCode1 holds our signature over the other
fields. The visible sign says "AI生成" or "AI-generated", at least 5 % of the shorter side high, from the first frame on
for two seconds or more. Readers are tolerant (what is found in the wild is shown, with what is wrong); writers strict.

Not covered: whether a label is true (metadata is easily written and removed), registered 27-character provider codes
(ask the regulator for yours), spoken labels and Morse rhythms of sound, visible signs that others drew (only our own
drawing is recognised), the official artwork of the EU's icons (the words of its three kinds are drawn), and legal
advice.

Sources: GB 45438-2025; EU AI Act, Article 50, and the Code of Practice of 10 June 2026 (kinds: fully AI-generated,
AI-assisted, and the two letters where there is no room); India's IT Rules as amended on 10 February 2026 (a prominent
label, permanent metadata with a unique identifier); California SB 942, section 22757.3 (latent disclosure: provider,
system and version, time, identifier).
"""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sorano.errors import RequestError, TrustError, VideoError
from sorano.files import canonical
from sorano.trust.printable import printable
from sorano.trust.provenance import containers, keys
from sorano.video import beside

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sorano.video import Frames

KEY = "AIGC"
FIELDS = {
    "label": "Label",
    "producer": "ContentProducer",
    "produce_id": "ProduceID",
    "reserved_1": "ReservedCode1",
    "propagator": "ContentPropagator",
    "propagate_id": "PropagateID",
    "reserved_2": "ReservedCode2",
}
MEANINGS = {"1": "is AI-generated", "2": "is possibly AI-generated", "3": "is suspected to be AI-generated"}
MAX_FIELD_CHARACTERS = 512


@dataclass(frozen=True)
class Regime:
    """What an audience's law asks of what AI made."""

    made: str  # the visible sign on what AI made
    edited: str  # and on what AI edited
    short: str  # where a frame has no room for those
    drawn: bool = False  # whether the sign is drawn unless told otherwise
    whole: bool = False  # whether it stays for all of a video, not for the first seconds
    disclosed: bool = False  # whether the manifest names provider, system, version, time and id


REGIMES = {
    "none": Regime("AI-generated", "AI-generated", "AI"),
    "cn": Regime("AI生成", "AI生成", "AI", drawn=True),
    "eu": Regime("AI-generated", "AI-assisted", "AI"),
    "in": Regime("AI-generated", "AI-generated", "AI", drawn=True, whole=True, disclosed=True),
    "us-ca": Regime("AI-generated", "AI-generated", "AI", disclosed=True),
}
AUDIENCES = tuple(REGIMES)
# The visible sign.
LEAST_SECONDS, SHOWN_SECONDS = 2.0, 3.0  # the standard's least; what is drawn
WHOLE_SECONDS = 4.0  # shorter clips carry it from beginning to end
LEAST_HEIGHT, SHOWN_HEIGHT = 0.05, 0.075  # of the shorter side; small pictures get a little more to stay legible
LEAST_PIXELS = 14
MARGIN = 0.03  # of the shorter side
PLATE = 0.55  # how dark the plate under the letters is
FOUND_SHORT, LONG_SHARE = 0.7, 0.8  # two letters are found in more places than twelve
FOUND_CORRELATION = 0.5  # with the drawn sign; unlabelled pictures stay below 0.3 (docs/LOG.md)


@dataclass(frozen=True)
class Label:
    """The AIGC object."""

    label: str = "1"
    producer: str = "Sorano"
    produce_id: str = ""
    reserved_1: str = ""
    propagator: str = ""
    propagate_id: str = ""
    reserved_2: str = ""

    def to_json(self) -> str:
        """The seven keys in the standard's order."""
        return json.dumps({FIELDS[name]: value for name, value in asdict(self).items()}, ensure_ascii=False)

    def unsigned(self) -> bytes:
        """What ReservedCode1 signs: the fields that the producer fills."""
        words = {FIELDS[name]: getattr(self, name) for name in ("label", "producer", "produce_id")}
        return b"sorano aigc 1\0" + canonical(words)


@dataclass(frozen=True)
class FoundLabel:
    """An AIGC object found in a file: where, as it stands, and what is wrong with it."""

    carrier: str
    fields: dict[str, str]
    problems: tuple[str, ...]

    @property
    def label(self) -> Label | None:
        """The object where it is as the standard says."""
        return None if self.problems else Label(**{name: self.fields[key] for name, key in FIELDS.items()})

    @property
    def says(self) -> str:
        """What the label says, in words."""
        return MEANINGS.get(self.fields.get("Label", ""), f"says {printable(self.fields.get('Label', 'nothing'))!r}")


@dataclass(frozen=True)
class Item:
    """One requirement of one regime, and whether a file meets it: yes, no, or cannot be told here."""

    regime: str
    item: str
    state: str  # yes, no, unknown
    detail: str


def check_fields(label: Label) -> None:
    """Raises RequestError for a label that the standard does not know."""
    if label.label not in MEANINGS:
        raise RequestError(f"Label must be 1 (is), 2 (possibly) or 3 (suspected): got {label.label!r}")
    for name, value in asdict(label).items():
        if not isinstance(value, str):
            raise RequestError(f"{FIELDS[name]} must be text: got {type(value).__name__}")
        if len(value) > MAX_FIELD_CHARACTERS or any(ord(char) < 32 for char in value):
            raise RequestError(f"{FIELDS[name]} must be at most {MAX_FIELD_CHARACTERS} characters on one line")
    for name in ("producer", "produce_id"):
        if not getattr(label, name).strip():
            raise RequestError(
                f"{FIELDS[name]} is empty", "name the producer: --producer NAME or its 27-character code"
            )


def signed(label: Label, signer: keys.Identity) -> Label:
    """The label with our signature over the producer's fields in ReservedCode1."""
    from cryptography.hazmat.primitives import serialization

    public = signer.leaf.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint
    )
    words = {
        "Type": "ES256",
        "Key": base64.b64encode(public).decode(),
        "Sig": base64.b64encode(signer.sign(label.unsigned())).decode(),
    }
    return replace(label, reserved_1=json.dumps(words, separators=(",", ":")))


def signature_holds(label: Label) -> bool | None:
    """Whether ReservedCode1 is our kind of signature and fits the fields; None where it is something else.

    It says that the fields belong together, not who wrote them: the key in it is anybody's.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, utils

    try:
        words = json.loads(label.reserved_1)
        if words["Type"] != "ES256":
            return None
        public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), base64.b64decode(words["Key"]))
        raw = base64.b64decode(words["Sig"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    size = keys.COORDINATE_BYTES
    r, s = int.from_bytes(raw[:size], "big"), int.from_bytes(raw[size:], "big")
    try:
        public.verify(utils.encode_dss_signature(r, s), label.unsigned(), ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, ValueError):
        return False
    return True


def write(path: Path, label: Label) -> str:
    """Writes the label into a file, all or nothing; returns the carrier's name. Raises RequestError, VideoError."""
    check_fields(label)
    with beside(path) as temporary:
        carrier = containers.write_text(path, temporary, KEY, label.to_json())
        found = read(temporary)
        if not any(one.label == label for one in found):
            raise VideoError(f"the label that was written into {path} does not read back")
        shutil.copymode(path, temporary)
        os.replace(temporary, path)
    return carrier


def read(path: str | Path) -> list[FoundLabel]:
    """Every AIGC object in a file. Raises VideoError for a file whose structure cannot be read."""
    return [parse(carrier, text) for carrier, text in containers.read_texts(path)]


def parse(carrier: str, text: str) -> FoundLabel:
    """An AIGC text, bare or wrapped in {"AIGC": ...}, as it stands, with what is wrong with it."""
    try:
        words, end = json.JSONDecoder().raw_decode(text.strip().lstrip("\ufeff"))
    except (ValueError, RecursionError):
        return FoundLabel(carrier, {}, ("it is not JSON",))
    if isinstance(words, dict) and len(words) == 1 and next(iter(words)).lower() == "aigc":
        words = next(iter(words.values()))
        if isinstance(words, str):
            try:
                words = json.loads(words)
            except (ValueError, RecursionError):
                return FoundLabel(carrier, {}, ("the object in it is not JSON",))
    if not isinstance(words, dict):
        return FoundLabel(carrier, {}, ("it is not a JSON object",))
    names = {key.lower(): key for key in FIELDS.values()}
    fields = {names.get(str(key).lower(), str(key)): _text(value) for key, value in list(words.items())[:64]}
    problems = [f"{key} is missing" for key in FIELDS.values() if key not in fields]
    problems += [f"{key} is not one of the seven keys" for key in fields if key not in FIELDS.values()]
    if "Label" in fields and fields["Label"] not in MEANINGS:
        problems.append(f"Label is {fields['Label'][:40]!r} instead of 1, 2 or 3")
    problems += [f"{key} is empty" for key in ("ContentProducer", "ProduceID") if fields.get(key) == ""]
    return FoundLabel(carrier, fields, tuple(problems))


def _text(value: Any) -> str:
    return value[:4096] if isinstance(value, str) else json.dumps(value, ensure_ascii=False)[:4096]


# The visible sign.


def is_drawn(audience: str, asked: bool | None) -> bool:
    """Whether the visible sign is drawn: as asked, else as the audience's law has it."""
    return REGIMES[audience].drawn if asked is None else asked


def disclosure(audience: str, *, provider: str, system: str, version: str, mark_id: str) -> dict[str, str]:
    """What the manifest discloses to an audience that asks for it: provider, system, version, time (UTC) and id."""
    if not REGIMES[audience].disclosed:
        return {}
    made_at = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    return {"provider": provider, "system": system, "version": version, "time": made_at, "id": mark_id}


def sign_frames(num_frames: int | None, fps: float, audience: str = "none") -> int | None:
    """How many frames from the first one carry the sign (None: all); a clip of unknown length has the full time."""
    if REGIMES[audience].whole:
        return num_frames
    if num_frames is not None and num_frames <= WHOLE_SECONDS * fps:
        return num_frames
    return max(1, -(-int(SHOWN_SECONDS * fps * 1000) // 1000))


def sign_of(audience: str, kind: str, height: int, width: int) -> str:
    """The words of the sign for what was "made" or "edited", or the short form where a frame has no room for them."""
    regime = REGIMES[audience]
    words = regime.edited if kind == "edited" else regime.made
    letters_HW, _, _, left = _sign(words, height, width)
    return words if left + letters_HW.shape[1] < width or regime.short == words else regime.short


def draw(frames_THWC: Frames, audience: str, *, first: int = 0, shown: int | None = None, kind: str = "made") -> Frames:
    """Frames with the sign in the upper left corner; of a stream, `first` is the number of the first one here.

    The sign is on the first `shown` frames of the whole clip; on all where that is None.
    """
    import numpy as np

    count = len(frames_THWC) if shown is None else max(0, min(len(frames_THWC), shown - first))
    if count == 0:
        return frames_THWC
    height, width = frames_THWC.shape[1:3]
    letters_HW, plate_HW, top, left = _sign(sign_of(audience, kind, height, width), height, width)
    rows, columns = slice(top, top + len(letters_HW)), slice(left, left + letters_HW.shape[1])
    drawn = frames_THWC.copy()
    patch = drawn[:count, rows, columns].astype(np.float32)
    patch *= 1 - PLATE * plate_HW[None, :, :, None]
    patch += (250 - patch) * letters_HW[None, :, :, None]
    drawn[:count, rows, columns] = np.clip(patch + 0.5, 0, 255).astype(np.uint8)
    return drawn


def sign_found(frame_HWC: Frames) -> str | None:
    """The sign that is drawn on a frame, where it is one that this module draws; None otherwise."""
    import numpy as np

    luma_HW = frame_HWC.astype(np.float32).mean(-1)
    words = {text for regime in REGIMES.values() for text in (regime.made, regime.edited)}
    shorts = {regime.short for regime in REGIMES.values()} - words
    scores = {text: _likeness(luma_HW, text) for text in sorted(words | shorts)}
    best = max(words, key=lambda text: scores[text])
    short = max(shorts, key=lambda text: scores[text])
    # The long forms begin as the short one does, which is as like as they are where one of them was drawn.
    if scores[best] > max(FOUND_CORRELATION, LONG_SHARE * scores[short]):
        return best
    return short if scores[short] > FOUND_SHORT else None


def _likeness(luma_HW: NDArray[np.float32], text: str) -> float:
    """The correlation of a sign with the place where it would be drawn."""
    import numpy as np

    letters_HW, _, top, left = _sign(text, *luma_HW.shape)
    patch = luma_HW[top : top + len(letters_HW), left : left + letters_HW.shape[1]]
    a, b = letters_HW - letters_HW.mean(), patch - patch.mean()
    scale = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / scale if scale > 1e-3 else 0.0


def sign_height(height: int, width: int) -> float:
    """The height of the sign's letters, as a share of the shorter side."""
    return _letter_pixels(height, width) / min(height, width)


def _letter_pixels(height: int, width: int) -> int:
    return max(LEAST_PIXELS, round(SHOWN_HEIGHT * min(height, width)))


# Strokes in a square of 1, x to the right and y down, drawn by hand: no font with Chinese letters need be there.
STROKES: dict[str, tuple[float, tuple[tuple[tuple[float, float], ...], ...]]] = {
    "A": (0.72, (((0.0, 1.0), (0.36, 0.0), (0.72, 1.0)), ((0.13, 0.66), (0.59, 0.66)))),
    "I": (0.12, (((0.06, 0.0), (0.06, 1.0)),)),
    "生": (
        1.0,
        (
            ((0.30, 0.04), (0.24, 0.22), (0.09, 0.40)),
            ((0.22, 0.27), (0.88, 0.27)),
            ((0.18, 0.60), (0.85, 0.60)),
            ((0.53, 0.03), (0.53, 0.96)),
            ((0.04, 0.96), (0.97, 0.96)),
        ),
    ),
    "成": (
        1.0,
        (
            ((0.14, 0.22), (0.94, 0.22)),
            ((0.16, 0.22), (0.15, 0.60), (0.04, 0.97)),
            ((0.16, 0.46), (0.45, 0.46), (0.43, 0.77), (0.40, 0.85), (0.29, 0.79)),
            ((0.56, 0.03), (0.60, 0.45), (0.72, 0.78), (0.89, 0.97), (0.96, 0.74)),
            ((0.85, 0.40), (0.70, 0.70), (0.45, 0.95)),
            ((0.70, 0.03), (0.82, 0.13)),
        ),
    ),
}


@lru_cache(maxsize=16)
def _sign(text: str, height: int, width: int) -> tuple[NDArray[np.float32], NDArray[np.float32], int, int]:
    """(letters, plate, top, left): coverage 0..1 of the sign for a frame of this size."""
    import numpy as np
    from PIL import Image, ImageDraw, ImageFont

    finer = 4
    pixels = _letter_pixels(height, width)
    size = pixels * finer
    pad = size // 3
    if all(char in STROKES for char in text):
        gap = size // 6
        advance = [round(STROKES[char][0] * size) for char in text]
        canvas = Image.new("L", (sum(advance) + gap * (len(text) - 1) + 2 * pad, size + 2 * pad))
        pen = ImageDraw.Draw(canvas)
        thick, x = max(finer, round(size * 0.1)), pad
        for char, step in zip(text, advance, strict=True):
            for stroke in STROKES[char][1]:
                points = [(x + px * size, pad + thick / 2 + py * (size - thick)) for px, py in stroke]
                pen.line(points, fill=255, width=thick, joint="curve")
                for px, py in points:
                    pen.ellipse((px - thick / 2, py - thick / 2, px + thick / 2, py + thick / 2), fill=255)
            x += step + gap
    else:
        font = ImageFont.load_default(size)
        left, top, right, bottom = font.getbbox("AI")
        font = ImageFont.load_default(size * size / max(1, bottom - top))  # so that the capitals are `size` high
        left, top, right, bottom = font.getbbox(text)
        canvas = Image.new("L", (round(right - left) + 2 * pad, round(bottom - top) + 2 * pad))
        ImageDraw.Draw(canvas).text((pad - left, pad - top), text, font=font, fill=255)
    shape = (max(1, canvas.width // finer), max(1, canvas.height // finer))
    letters_HW = np.asarray(canvas.resize(shape, Image.Resampling.BOX), np.float32) / np.float32(255)
    margin = round(MARGIN * min(height, width))
    top, left = min(margin, max(0, height - 1)), min(margin, max(0, width - 1))
    letters_HW = letters_HW[: height - top, : width - left]
    return letters_HW, np.ones_like(letters_HW), top, left


def default_audience(audience: str | None) -> str:
    """A known audience. Raises RequestError for another."""
    audience = audience or "none"
    if audience not in AUDIENCES:
        raise RequestError(f"unknown audience {audience!r}", f"use one of {', '.join(AUDIENCES)}")
    return audience


def worst(items: Sequence[Item]) -> str:
    """no where any requirement is not met, else unknown where any cannot be told, else yes."""
    states = {item.state for item in items}
    return "no" if "no" in states else "unknown" if "unknown" in states else "yes"


__all__ = [
    "AUDIENCES",
    "REGIMES",
    "FoundLabel",
    "Item",
    "Label",
    "TrustError",
    "draw",
    "read",
    "sign_found",
    "signed",
    "write",
]
