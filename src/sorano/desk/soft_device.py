"""An authenticator in software, for the demonstration and the tests: real signatures, and no security at all.

It answers as a browser with a platform authenticator does: `create` and `get` take the options of the desk and the
origin of the page that asks, and return what `PublicKeyCredential.toJSON()` gives.

Not covered: everything that makes a device worth trusting. Its keys are in memory, and it signs whatever it is asked to
for any origin, which is how the tests attack.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import struct
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from webauthn.helpers import bytes_to_base64url, encode_cbor

PRESENT, VERIFIED, ATTESTED = 1, 4, 64


@dataclass
class SoftDevice:
    """One device with one passkey for each relying party."""

    verifies_user: bool = True
    counts: bool = True  # whether its signature counter rises; passkeys that are synced report 0
    made: dict[str, tuple[bytes, ec.EllipticCurvePrivateKey]] = field(default_factory=dict)  # by relying party
    uses: int = 0

    def create(self, options: dict[str, Any], origin: str) -> dict[str, Any]:
        """Make a passkey; options as for `navigator.credentials.create`."""
        asked = options["publicKey"]
        name, key = secrets.token_bytes(16), ec.generate_private_key(ec.SECP256R1())
        party = asked["rp"]["id"]
        self.made[party] = (name, key)
        public = key.public_key().public_numbers()
        cose = {1: 2, 3: -7, -1: 1, -2: public.x.to_bytes(32, "big"), -3: public.y.to_bytes(32, "big")}
        attested = bytes(16) + struct.pack(">H", len(name)) + name + encode_cbor(cose)
        told = {"fmt": "none", "attStmt": {}, "authData": self._data(party, ATTESTED) + attested}
        response = {
            "clientDataJSON": _client("webauthn.create", asked["challenge"], origin),
            "attestationObject": bytes_to_base64url(encode_cbor(told)),
        }
        return self._answer(name, response)

    def get(self, options: dict[str, Any], origin: str, **client: Any) -> dict[str, Any]:
        """Sign a challenge; options as for `navigator.credentials.get`. `client`: more members of the client data."""
        asked = options["publicKey"]
        name, key = self.made[asked["rpId"]]
        data = self._data(asked["rpId"], 0)
        said = _client("webauthn.get", asked["challenge"], origin, **client)
        signed = data + hashlib.sha256(_bytes(said)).digest()
        response = {
            "clientDataJSON": said,
            "authenticatorData": bytes_to_base64url(data),
            "signature": bytes_to_base64url(key.sign(signed, ec.ECDSA(hashes.SHA256()))),
        }
        return self._answer(name, response)

    def _data(self, party: str, flags: int) -> bytes:
        self.uses += 1
        flags |= PRESENT | (VERIFIED if self.verifies_user else 0)
        return hashlib.sha256(party.encode()).digest() + struct.pack(">BI", flags, self.uses if self.counts else 0)

    @staticmethod
    def _answer(name: bytes, response: dict[str, Any]) -> dict[str, Any]:
        told = bytes_to_base64url(name)
        return {"id": told, "rawId": told, "type": "public-key", "response": response, "clientExtensionResults": {}}


def _client(kind: str, challenge: str, origin: str, **more: Any) -> str:
    words = {"type": kind, "challenge": challenge, "origin": origin, "crossOrigin": False, **more}
    return bytes_to_base64url(json.dumps(words, separators=(",", ":")).encode())


def _bytes(text: str) -> bytes:
    from webauthn.helpers import base64url_to_bytes

    return base64url_to_bytes(text)
