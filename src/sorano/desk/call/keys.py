"""The keys of a call: a session key for each participant who proved a passkey, and a chain of slot keys from it.

    session = HKDF-SHA256(secret of the desk, salt = SHA-256(call), info = canonical {type, person, assertion})
    frames  = HKDF-SHA256(session, info = "sorano desk call frames 1")        MACs of encoded frames
    K[last] = HKDF-SHA256(session, info = "sorano desk call slots 1")         the end of the chain
    K[i-1]  = SHA-256("sorano desk call slot 1" || 0 || K[i])                 commitment = K[-1]

`assertion` is the SHA-256 of the passkey's answer at the join, so that a session ends with its join. Time is cut into
slots of one second from the join on. The pictures of slot i carry a mark whose carrier and payload follow from K[i]
(`sorano.desk.call.marks`). K[i] is a secret of the desk and the participant until `DISCLOSURE_SECONDS` after the slot's
end; then it is published in a bundle that the desk signs (TESLA, Perrig et al., RFC 4082). A receiver who had the
pictures before that knows that nobody else could have marked them. One key gives all before it, by hashing, so that
lost bundles do no harm.

Covered: who could have marked the pictures of a slot, for anyone who holds the bundles and noted when pictures came.
Not covered: what stands before the lens (a screen, a virtual camera on the participant's own machine), and a desk that
is controlled by somebody else: it knows every key.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sorano.errors import TamperedError
from sorano.files import canonical

SLOT_SECONDS = 1.0
DISCLOSURE_SECONDS = 1.0  # from a slot's end to its key: pictures that take longer are not counted
MOST_SLOTS = 14_400  # of one session: four hours, then one joins again
MAC_BITS = 26  # of the mark's id; 14 are the slot's number
SESSION, FRAMES, SLOTS = (f"sorano desk call {name} 1" for name in ("session", "frames", "slots"))
STEP = b"sorano desk call slot 1\0"
BUNDLE = "sorano desk call keys 1"


def session_key(secret: bytes, call: str, person: str, proof: Mapping[str, Any]) -> bytes:
    """The session key, 32 bytes, of a participant (`person`: an id of the directory) by their passkey's assertion.

    `proof` has the text fields `client_data`, `authenticator_data`, `signature` (`passkeys.Proof.receipt`).
    """
    answer = hashlib.sha256(canonical({name: proof[name] for name in sorted(ASSERTION)})).hexdigest()
    info = canonical({"type": SESSION, "person": person, "assertion": answer})
    return _hkdf(secret, info, hashlib.sha256(call.encode()).digest())


ASSERTION = ("client_data", "authenticator_data", "signature")


@dataclass(frozen=True)
class SlotKey:
    """The key of one slot: what its mark is drawn from."""

    call: str
    person: str
    slot: int
    key: bytes

    @property
    def pattern_key(self) -> bytes:
        """The watermark key of the slot's carrier."""
        return hmac.digest(self.key, b"pattern", "sha256")

    @property
    def mark_id(self) -> int:
        """The 40 bits of the payload: 14 of the slot's number, 26 of a MAC over call, person and slot."""
        told = canonical({"call": self.call, "person": self.person, "slot": self.slot})
        mac = int.from_bytes(hmac.digest(hmac.digest(self.key, b"mac", "sha256"), told, "sha256")[:4], "big")
        return self.slot << MAC_BITS | mac >> (32 - MAC_BITS)


@dataclass(frozen=True)
class KeyChain:
    """The slot keys of one session: `keys` has 32 bytes for each, in the order of their slots."""

    call: str
    person: str
    keys: bytes = field(repr=False)
    commitment: bytes
    frame_key: bytes = field(repr=False)

    @classmethod
    def of(cls, session: bytes, call: str, person: str) -> KeyChain:
        """The chain of a session key: 14,400 hashes, some milliseconds."""
        held = [_hkdf(session, SLOTS.encode())]
        while len(held) < MOST_SLOTS:
            held.append(hashlib.sha256(STEP + held[-1]).digest())
        commitment = hashlib.sha256(STEP + held[-1]).digest()
        return cls(call, person, b"".join(reversed(held)), commitment, _hkdf(session, FRAMES.encode()))

    def __getitem__(self, slot: int) -> SlotKey:
        """The key of a slot. Raises IndexError beyond the session's four hours."""
        if not 0 <= slot < MOST_SLOTS:
            raise IndexError(f"a session has {MOST_SLOTS} slots: got {slot}")
        return SlotKey(self.call, self.person, slot, self.keys[32 * slot : 32 * slot + 32])


@dataclass
class DisclosedKeys:
    """What a receiver knows of one participant's chain: the commitment of the join, then each key that fits to it."""

    call: str
    person: str
    commitment: bytes
    last: int = -1
    known: bytes = b""

    def __post_init__(self) -> None:
        self.known = self.known or self.commitment

    def accept(self, slot: int, key: bytes) -> SlotKey:
        """Take a disclosed key. Raises TamperedError for one that does not hash to what was known before."""
        if not self.last < slot < MOST_SLOTS or len(key) != 32:
            raise TamperedError(f"slot {slot} does not follow slot {self.last}", "ask the desk for its bundles again")
        hashed = key
        for _ in range(slot - self.last):
            hashed = hashlib.sha256(STEP + hashed).digest()
        if not hmac.compare_digest(hashed, self.known):
            raise TamperedError(f"the key of slot {slot} is not of this session", "leave the call")
        self.last, self.known = slot, key
        return SlotKey(self.call, self.person, slot, key)


def disclosable(began: float, now: float) -> int:
    """The last slot whose key may be known at a time, of a session that began at another; -1: none yet."""
    return min(int((now - began - DISCLOSURE_SECONDS) // SLOT_SECONDS) - 1, MOST_SLOTS - 1) if now >= began else -1


def _hkdf(key: bytes, info: bytes, salt: bytes = b"") -> bytes:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(algorithm=SHA256(), length=32, salt=salt or None, info=info).derive(key)
