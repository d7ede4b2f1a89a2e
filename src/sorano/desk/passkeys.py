"""Passkey ceremonies: a challenge that is bound to exact bytes, and the assertion over it.

    challenge = SHA-256("sorano desk PURPOSE 1" || 0 || nonce || SHA-256(bytes))

The nonce is drawn for each ceremony, so that one assertion counts for one person, one purpose and one try: whatever
comes back burns it, before it is looked at. Signatures are verified by `webauthn`; user verification is required, the
origin is the desk's own, and an embedded page of another origin is refused.

Not covered: what else an enrolled device shows or hides (it can be infected), and whose finger it was: enrolment says
whose device it is, and two people vouch for that.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
import webauthn
from webauthn.helpers import base64url_to_bytes, bytes_to_base64url, options_to_json
from webauthn.helpers.exceptions import WebAuthnException
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    CredentialDeviceType,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from sorano.desk.config import DeskSettings
from sorano.desk.tables import ceremonies, credentials
from sorano.web.database import Database
from sorano.web.problems import Problem

APPROVE, SPONSOR, SIGN_IN, ENROL, JOIN = "approve", "sponsor", "sign in", "enrol", "join call"
WINDOW_SECONDS = 60.0
MOST_OPEN = 5000  # ceremonies of nobody in particular that wait at once


@dataclass(frozen=True)
class Proof:
    """An assertion that was verified, as receipts keep it."""

    person: str
    credential: str
    nonce: str
    client_data: str
    authenticator_data: str
    signature: str
    sign_count: int

    def receipt(self) -> dict[str, Any]:
        """What a later audit needs."""
        names = ("person", "credential", "nonce", "client_data", "authenticator_data", "signature")
        return {name: getattr(self, name) for name in names}


def challenge_of(purpose: str, nonce: bytes, digest: bytes) -> bytes:
    """The challenge for the SHA-256 of some bytes."""
    return hashlib.sha256(f"sorano desk {purpose} 1".encode() + b"\0" + nonce + digest).digest()


class Passkeys:
    """The ceremonies of one desk."""

    def __init__(self, database: Database, settings: DeskSettings) -> None:
        self.database, self.settings = database, settings

    def begin(
        self,
        now: float,
        purpose: str,
        digest: bytes,
        *,
        person: str | None,
        subject: str | None,
        asks: str | None = None,
    ) -> dict[str, Any]:
        """A ceremony and the options for `navigator.credentials.get`. Raises `Problem`."""
        row = self._open(now, purpose, digest, person, subject, asks)
        with self.database.read() as connection:
            known = [] if person is None else [one["id"] for one in _live(connection, person)]
        if person is not None and not known:
            raise Problem("not_enrolled", "no passkey of yours is enrolled", "ask two colleagues for an enrolment")
        options = webauthn.generate_authentication_options(
            rp_id=self.settings.rp_id,
            challenge=base64url_to_bytes(row["challenge"]),
            timeout=int(1000 * self.settings.ceremony_seconds),
            allow_credentials=[PublicKeyCredentialDescriptor(id=base64url_to_bytes(one)) for one in known] or None,
            user_verification=UserVerificationRequirement.REQUIRED,
        )
        return {"ceremony": row["id"], "asks": asks, "publicKey": json.loads(options_to_json(options))}

    def begin_enrolment(self, now: float, digest: bytes, person: str, name: str, ticket: str) -> dict[str, Any]:
        """A ceremony and the options for `navigator.credentials.create`. Raises `Problem`."""
        row = self._open(now, ENROL, digest, person, ticket, None)
        with self.database.read() as connection:
            known = [one["id"] for one in _live(connection, person)]
        options = webauthn.generate_registration_options(
            rp_id=self.settings.rp_id,
            rp_name="Sorano desk",
            user_id=person.encode(),
            user_name=name,
            challenge=base64url_to_bytes(row["challenge"]),
            timeout=int(1000 * self.settings.ceremony_seconds),
            authenticator_selection=AuthenticatorSelectionCriteria(
                resident_key=ResidentKeyRequirement.REQUIRED, user_verification=UserVerificationRequirement.REQUIRED
            ),
            exclude_credentials=[PublicKeyCredentialDescriptor(id=base64url_to_bytes(one)) for one in known],
        )
        return {"ceremony": row["id"], "publicKey": json.loads(options_to_json(options))}

    def burn(self, now: float, name: Any, purpose: str, *, person: str | None, subject: str | None) -> sa.RowMapping:
        """Burn a ceremony, which must be this person's and for this subject; return its row. Raises `Problem`."""
        with self.database.write() as connection:
            taken = connection.execute(
                sa.update(ceremonies)
                .where(ceremonies.c.id == str(name)[:80], ceremonies.c.used_at.is_(None))
                .values(used_at=now)
            ).rowcount
            row = connection.execute(sa.select(ceremonies).where(ceremonies.c.id == str(name)[:80])).mappings().first()
        if row is None or not taken or not row["created_at"] <= now < row["expires_at"]:
            raise Problem("ceremony_over", "this confirmation was used or has expired", "begin it again")
        if (row["purpose"], row["person_id"], row["subject"]) != (purpose, person, subject):
            raise Problem("assertion_refused", "this confirmation was begun for something else", "begin it again")
        return row

    def verify(self, ceremony: sa.RowMapping, given: Any) -> Proof:
        """The proof of a passkey assertion over a burnt ceremony's challenge. Raises `Problem`."""
        given = _credential(given)
        with self.database.read() as connection:
            query = sa.select(credentials).where(credentials.c.id == given["id"], credentials.c.revoked_at.is_(None))
            known = connection.execute(query).mappings().first()
        if known is None or ceremony["person_id"] not in (None, known["person_id"]):
            raise Problem("assertion_refused", "this passkey is not enrolled for you", "use an enrolled device")
        count = check_assertion(
            given,
            challenge=base64url_to_bytes(ceremony["challenge"]),
            origin=self.settings.origin,
            public_key=known["public_key"],
            sign_count=known["sign_count"],
        )
        said = given["response"]
        return Proof(
            known["person_id"],
            known["id"],
            ceremony["nonce"],
            said["clientDataJSON"],
            said["authenticatorData"],
            said["signature"],
            count,
        )

    def verify_enrolment(self, ceremony: sa.RowMapping, given: Any) -> dict[str, Any]:
        """The columns of a new passkey. Raises `Problem`."""
        given = _credential(given)
        try:
            _check_client(given, "webauthn.create")
            found = webauthn.verify_registration_response(
                credential=given,
                expected_challenge=base64url_to_bytes(ceremony["challenge"]),
                expected_rp_id=self.settings.rp_id,
                expected_origin=self.settings.origin,
                require_user_verification=True,
            )
        except (WebAuthnException, ValueError, KeyError, TypeError) as error:
            raise _refused(error) from error
        return {
            "id": bytes_to_base64url(found.credential_id),
            "public_key": bytes_to_base64url(found.credential_public_key),
            "sign_count": found.sign_count,
            "is_synced": found.credential_device_type is CredentialDeviceType.MULTI_DEVICE,
        }

    def _open(
        self, now: float, purpose: str, digest: bytes, person: str | None, subject: str | None, asks: str | None
    ) -> dict[str, Any]:
        nonce = secrets.token_bytes(16)
        row = {
            "id": f"cer_{secrets.token_hex(12)}",
            "purpose": purpose,
            "person_id": person,
            "subject": subject,
            "nonce": nonce.hex(),
            "challenge": bytes_to_base64url(challenge_of(purpose, nonce, digest)),
            "asks": asks,
            "created_at": now,
            "expires_at": now + self.settings.ceremony_seconds,
        }
        mine = ceremonies.c.person_id.is_(None) if person is None else ceremonies.c.person_id == person
        most = MOST_OPEN if person is None else self.settings.most_ceremonies
        with self.database.write(durable=False) as connection:
            query = sa.select(sa.func.count()).where(mine, ceremonies.c.created_at > now - WINDOW_SECONDS)
            if connection.execute(query).scalar_one() >= most:
                raise Problem(
                    "too_many_attempts",
                    "too many confirmations were begun",
                    "wait a minute",
                    retry_after=WINDOW_SECONDS,
                )
            connection.execute(sa.insert(ceremonies).values(**row))
        return row


def note_use(connection: sa.Connection, proof: Proof) -> None:
    """Keep an authenticator's counter. Raises `Problem` where another assertion was quicker or the key was revoked."""
    mine = sa.and_(credentials.c.id == proof.credential, credentials.c.revoked_at.is_(None))
    newer = credentials.c.sign_count < proof.sign_count
    if proof.sign_count == 0:  # an authenticator that does not count
        newer = credentials.c.sign_count == 0
    taken = connection.execute(sa.update(credentials).where(mine, newer).values(sign_count=proof.sign_count)).rowcount
    if not taken:
        raise Problem("assertion_refused", "the passkey was revoked, or its counter did not rise", "begin it again")


def check_assertion(given: dict[str, Any], *, challenge: bytes, origin: str, public_key: str, sign_count: int) -> int:
    """The authenticator's counter in a valid assertion with user verification. Raises `Problem`."""
    from urllib.parse import urlsplit

    try:
        _check_client(given, "webauthn.get")
        found = webauthn.verify_authentication_response(
            credential=given,
            expected_challenge=challenge,
            expected_rp_id=str(urlsplit(origin).hostname),
            expected_origin=origin,
            credential_public_key=base64url_to_bytes(public_key),
            credential_current_sign_count=sign_count,
            require_user_verification=True,
        )
    except (WebAuthnException, ValueError, KeyError, TypeError) as error:
        raise _refused(error) from error
    return found.new_sign_count


def _check_client(given: dict[str, Any], kind: str) -> None:
    """Raises ValueError for client data of another kind, or of a page inside another origin's."""
    said = json.loads(base64url_to_bytes(given["response"]["clientDataJSON"]))
    if said["type"] != kind or said.get("crossOrigin") or "topOrigin" in said:
        raise ValueError("it was not made by the desk's own page")


def _credential(given: Any) -> dict[str, Any]:
    fields = given.get("response") if isinstance(given, dict) else None
    if not isinstance(fields, dict) or not isinstance(given.get("id"), str) or len(given["id"]) > 1400:
        raise Problem("invalid_type", "credential is no answer of a passkey", "send it as toJSON() gives it")
    return dict(given)


def _refused(error: Exception) -> Problem:
    said = str(error).split("\n")[0][:120] if isinstance(error, WebAuthnException) else "it cannot be read"
    return Problem("assertion_refused", f"the passkey's answer is not valid here: {said}", "use the desk's own page")


def _live(connection: sa.Connection, person: str) -> list[sa.RowMapping]:
    query = sa.select(credentials).where(credentials.c.person_id == person, credentials.c.revoked_at.is_(None))
    return list(connection.execute(query).mappings())
