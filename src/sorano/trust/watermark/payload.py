"""What a mark says: a version, a kind and an id, in a polar code; and the public key.

Covered: the 44 bits, and which of them this version writes. Not covered: who made something: an id leads to a signed
manifest, or to nothing (`trust/provenance/store.py`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from sorano.errors import RequestError
from sorano.trust.watermark.pattern import CODE_BITS
from sorano.trust.watermark.polar import Bits, PolarCode, to_bits, to_int

PUBLIC_KEY = hashlib.sha256(b"Sorano public carrier key, version 1").digest()
VERSION = 1
KINDS = {"made": 1, "captured": 2}  # by AI; by a camera or a screen
ID_BITS = 40
CODE = PolarCode(size=CODE_BITS, message_bits=4 + ID_BITS, crc_bits=28)
HEADER_PASSES = len(KINDS) / 16  # the share of noise whose four header bits are a known version and kind


@dataclass(frozen=True)
class Payload:
    """What a mark says. `id` has 40 bits; `kind` is "made" (by AI) or "captured"."""

    version: int
    kind: str
    id: int

    def __post_init__(self) -> None:
        if self.version != VERSION:
            raise RequestError(f"marks have version {VERSION}: got {self.version}")
        if self.kind not in KINDS:
            raise RequestError(f"a mark says {' or '.join(KINDS)}: got {self.kind!r}")
        if not 0 <= self.id < 1 << ID_BITS:
            raise RequestError(f"the id of a mark has {ID_BITS} bits: got {self.id}")

    def bits(self) -> Bits:
        """The message: version, kind, id."""
        return np.concatenate([to_bits(self.version, 2), to_bits(KINDS[self.kind], 2), to_bits(self.id, ID_BITS)])

    @classmethod
    def from_bits(cls, message: Bits) -> Payload | None:
        """The payload of a decoded message; None where it is none that this version writes."""
        kinds = {number: kind for kind, number in KINDS.items()}
        kind = kinds.get(to_int(message[2:4]))
        if to_int(message[:2]) != VERSION or kind is None:
            return None
        return cls(VERSION, kind, to_int(message[4:]))
