"""Keys: who signs, and which private carriers mark one's own recordings.

The first run makes a root certificate of its own and, under it, the leaf that signs. Others trust the root once
(`sorano keys export`, `sorano trust add`); the leaf can be replaced under it. Files lie in the user's configuration
folder, readable by their owner only. A signer elsewhere (KMS, PKCS#11, a card) is an `Identity` with another `sign`.

A private carrier is a secret watermark key for one recording or session. Its commitment is signed with the recording;
the key itself is disclosed later in a signed bundle, so that nobody could have forged the mark before.

Folders and files of keys and of trust that others than their owner can write to are refused (POSIX).

Not covered: folders above the configuration folder, who a person is (a name in a certificate of one's own is what its
owner typed), revocation (tell people to remove a root), keys on a machine that others control, and when a bundle was
signed (its date is its signer's word).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import secrets
import shlex
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sorano import files
from sorano.errors import RequestError, TrustError
from sorano.files import canonical
from sorano.trust.printable import printable

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

ROOT_YEARS, LEAF_YEARS = 20, 3
RENEW_DAYS = 30  # a leaf this close to its end is replaced before it signs
CLAIM_SIGNING = "1.3.6.1.4.1.62558.2.1"  # the purpose that C2PA names; with e-mail protection every reader takes it
COORDINATE_BYTES = 32  # of an ES256 signature, r and s each
CARRIER_BYTES = 32
MAX_NAME_CHARACTERS = 64  # X.520's upper bound for names
MAX_FILE_BYTES = 1_000_000  # of a key, certificate or bundle
EXTERNAL_SECONDS = 60  # that an external signer may take
BUNDLE = "sorano carrier disclosure 1"
CLOCK_SLACK = timedelta(hours=1)  # certificates begin this much earlier, for clocks that differ


@dataclass(frozen=True)
class Identity:
    """Who signs: a certificate chain (leaf first) and a function from bytes to an ES256 signature, r and s in a row.

    `sign` may ask a KMS or a card; the private key need not be here.
    """

    chain_pem: str
    sign: Callable[[bytes], bytes]

    @property
    def leaf(self) -> x509.Certificate:
        """The certificate that signs."""
        return certificates(self.chain_pem, "the signer's chain")[0]

    @property
    def name(self) -> str:
        """The leaf's common name."""
        return common_name(self.leaf)


@dataclass(frozen=True)
class WatermarkKey:
    """A private watermark key and its public name."""

    id: str
    key: bytes
    made: str

    @property
    def commitment(self) -> str:
        """What is signed with a recording before the key is disclosed."""
        return commitment_of(self.id, self.key)


def config_folder() -> Path:
    """$SORANO_CONFIG, or sorano in the user's configuration folder."""
    return user_folder("config", "SORANO_CONFIG")


def user_folder(kind: str, override: str) -> Path:
    """`sorano.files.user_folder`. Raises TrustError where there is no home folder."""
    try:
        return files.user_folder(kind, override)
    except RuntimeError as error:
        raise TrustError(f"there is no home folder for keys: {error}", f"name a folder: {override}=/path") from error


def keys_folder() -> Path:
    """Where the root and the leaf lie."""
    return config_folder() / "keys"


def identity() -> Identity:
    """The signer of this user: external if one is set up, else the own leaf, made with its root on the first run.

    Raises TrustError for keys that cannot be read, that others can read, or whose certificate is not valid now.
    """
    folder = keys_folder()
    if not folder.exists():
        init()
    check_guarded(folder.parent)
    check_guarded(folder)
    if not (folder / "external.json").exists():
        leaf = _certificate(folder / "leaf.pem")
        if leaf.not_valid_after_utc - datetime.now(UTC) < timedelta(days=RENEW_DAYS) and (folder / "root.key").exists():
            return rotate()
    return _valid(_present(folder))


def present() -> Identity | None:
    """The signer of this user as it is: nothing is made or renewed, and an own certificate may have ended.

    None before the first run. Raises TrustError for keys that cannot be read, or that others can read.
    """
    folder = keys_folder()
    if not folder.exists():
        return None
    check_guarded(folder.parent)
    check_guarded(folder)
    return _present(folder)


def _present(folder: Path) -> Identity:
    return _external(folder / "external.json") if (folder / "external.json").exists() else _own(folder)


def _own(folder: Path) -> Identity:
    chain = read_guarded(folder / "leaf.pem") + read_guarded(folder / "root.pem")
    key = _private_key(folder / "leaf.key")
    leaf = certificates(chain.decode(), str(folder / "leaf.pem"))[0]
    if key.public_key() != leaf.public_key():
        raise TrustError(f"{folder / 'leaf.key'} does not belong to leaf.pem beside it", "sorano keys rotate")
    return Identity(chain.decode(), signer_of(key))


def _valid(found: Identity) -> Identity:
    check_validity(found.leaf)
    return found


def signer_of(key: EllipticCurvePrivateKey) -> Callable[[bytes], bytes]:
    """The `sign` of an Identity for a P-256 key at hand."""

    def sign(data: bytes) -> bytes:
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec, utils

        r, s = utils.decode_dss_signature(key.sign(data, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(COORDINATE_BYTES, "big") + s.to_bytes(COORDINATE_BYTES, "big")

    return sign


def init(name: str | None = None) -> Identity:
    """Makes a root and a leaf. Raises RequestError where there are keys already, which are kept."""
    folder = keys_folder()
    if folder.exists() and any(folder.iterdir()):
        raise RequestError(f"there are keys in {folder} and they are kept", "sorano keys rotate makes new ones")
    name = name or f"Sorano user {secrets.token_hex(3)}"
    if not 0 < len(name) <= MAX_NAME_CHARACTERS or not name.isprintable():
        raise RequestError(f"a name has 1 to {MAX_NAME_CHARACTERS} printable characters: got {name!r}")
    with _complaints(folder):
        make_folder(folder.parent)
        fresh = folder.parent / f".keys.{secrets.token_hex(4)}"
        fresh.mkdir(mode=0o700)
        root_key, root = _make_root(name)
        _write_pair(fresh, "root", root_key, root)
        _write_pair(fresh, "leaf", *_make_leaf(name, root_key, root))
        try:
            fresh.rename(folder)  # in one step: of two first runs at once, one wins
        except OSError:
            if not (folder / "leaf.key").exists():
                raise
            for file in fresh.iterdir():
                file.unlink()
            fresh.rmdir()
    return identity()


def init_external(chain: Path, command: str) -> Identity:
    """Signs by a command from now on: it gets the bytes on stdin and answers with the signature, 64 bytes or DER."""
    folder = keys_folder()
    found = certificates(_read(chain).decode("ascii", "replace"), str(chain))
    check_validity(found[0])
    if not shlex.split(command):
        raise RequestError("the signing command is empty")
    with _complaints(folder):
        make_folder(folder)
        words = {"chain_pem": "".join(map(to_pem, found)), "command": shlex.split(command)}
        write_private(folder / "external.json", json.dumps(words).encode())
    return _external(folder / "external.json")


def rotate(*, root: bool = False) -> Identity:
    """A new leaf under the same root, or a new root too. The old certificates are kept beside, their keys are not."""
    folder = keys_folder()
    if not (folder / "root.pem").exists():
        raise TrustError(f"there are no keys in {folder}", "sorano keys init makes them")
    with _complaints(folder):
        retired = folder / "retired"
        make_folder(retired)
        old_root = _certificate(folder / "root.pem")
        name = common_name(old_root).removesuffix(" root")
        for which in ("root", "leaf") if root else ("leaf",):
            old = _certificate(folder / f"{which}.pem")
            write_private(retired / f"{which}-{fingerprint(old)[:16]}.pem", to_pem(old).encode())
        root_key, root_cert = _make_root(name) if root else (_private_key(folder / "root.key"), old_root)
        if root:
            _write_pair(folder, "root", root_key, root_cert)
        _write_pair(folder, "leaf", *_make_leaf(name, root_key, root_cert))
        with suppress(FileNotFoundError):
            (folder / "external.json").unlink()
    return _valid(_own(folder))


def own_roots() -> list[str]:
    """The PEM of one's own roots, the retired ones too; none before the first run."""
    folder = keys_folder()
    own = [folder / "root.pem", *sorted((folder / "retired").glob("root-*.pem"))]
    if not any(file.exists() for file in own):
        return []
    for place in (folder.parent, folder, folder / "retired"):
        if place.exists():
            check_guarded(place)
    return [read_guarded(file).decode() for file in own if file.exists()]


def export() -> str:
    """The root's certificate as PEM: what others add to their trust. Holds no secret."""
    identity()
    folder = keys_folder()
    if (folder / "external.json").exists():
        return to_pem(certificates(_external(folder / "external.json").chain_pem, "the external chain")[-1])
    return _read(folder / "root.pem").decode()


@dataclass(frozen=True)
class KeyInfo:
    """A certificate or a private carrier, as `sorano keys list` shows it."""

    kind: str  # root, leaf, external, retired, carrier
    name: str
    fingerprint: str
    valid_until: str
    path: str


def list_keys() -> list[KeyInfo]:
    """What there is, without any secret."""
    folder = keys_folder()
    found = []
    for kind, file in [
        ("root", folder / "root.pem"),
        ("leaf", folder / "leaf.pem"),
        *(("retired", file) for file in sorted((folder / "retired").glob("*.pem"))),
    ]:
        if file.exists():
            found.append(_info(kind, _certificate(file), file))
    if (folder / "external.json").exists():
        file = folder / "external.json"
        found.append(_info("external", _external(file).leaf, file))
    for carrier in carriers():
        place = _carrier_file(carrier.id)
        found.append(KeyInfo("carrier", carrier.id, carrier.commitment[:16], "-", str(place)))
    return found


# Private carriers.


def new_carrier() -> WatermarkKey:
    """A private watermark key of its own, kept owner-only; its id goes into the signed manifest."""
    carrier = WatermarkKey(secrets.token_hex(8), secrets.token_bytes(CARRIER_BYTES), _now())
    file = _carrier_file(carrier.id)
    with _complaints(file):
        make_folder(file.parent)
        words = {"id": carrier.id, "key": carrier.key.hex(), "made": carrier.made}
        write_private(file, json.dumps(words).encode())
    return carrier


def carriers() -> list[WatermarkKey]:
    """One's own private carriers, the newest first."""
    folder = config_folder() / "carriers"
    if not folder.is_dir():
        return []
    check_guarded(folder)
    found = folder.glob("*.json")
    return sorted((parse_carrier(_private(file), str(file)) for file in found), key=lambda one: one.made, reverse=True)


def disclose(carrier_id: str, signer: Identity | None = None) -> str:
    """A signed bundle, as JSON, that gives a private carrier's key away so that anyone can look for its mark."""
    found = [carrier for carrier in carriers() if carrier.id.startswith(carrier_id)]
    if len(found) != 1 or not carrier_id:
        known = ", ".join(carrier.id for carrier in carriers()) or "none"
        raise RequestError(f"there is no private carrier {carrier_id!r}", f"known here: {known}")
    signer = signer or identity()
    words = {
        "type": BUNDLE,
        "id": found[0].id,
        "key": found[0].key.hex(),
        "made": found[0].made,
        "disclosed": _now(),
        "chain": signer.chain_pem,
    }
    signature = signer.sign(canonical(words))
    return json.dumps({**words, "signature": base64.b64encode(signature).decode()}, indent=1)


def commitment_of(carrier_id: str, key: bytes) -> str:
    """SHA-256 that binds a key to its id and gives neither away."""
    return hmac.new(key, b"sorano carrier 1\0" + carrier_id.encode(), hashlib.sha256).hexdigest()


# Certificates.


def certificates(pem: str, where: str) -> list[x509.Certificate]:
    """The certificates in a PEM text. Raises TrustError where there are none or one cannot be read."""
    from cryptography import x509

    try:
        found = x509.load_pem_x509_certificates(pem.encode())
    except (ValueError, x509.InvalidVersion) as error:
        raise TrustError(f"{where} holds no certificate that can be read: {error}") from error
    return found


def check_validity(cert: x509.Certificate, now: datetime | None = None) -> None:
    """Raises TrustError where a certificate has ended, or begins in the future: then a clock is wrong."""
    now = now or datetime.now(UTC)
    name = printable(common_name(cert))
    if now > cert.not_valid_after_utc:
        raise TrustError(
            f"the certificate of {name} was valid until {cert.not_valid_after_utc:%Y-%m-%d %H:%M} UTC",
            "sorano keys rotate makes a new one; if today is earlier, set this machine's clock",
        )
    if now < cert.not_valid_before_utc:
        raise TrustError(
            f"the certificate of {name} is valid from {cert.not_valid_before_utc:%Y-%m-%d %H:%M} UTC, "
            f"and this machine says that it is {now:%Y-%m-%d %H:%M}",
            "set this machine's clock",
        )


def common_name(cert: x509.Certificate) -> str:
    """The subject's common name, or all of the subject."""
    from cryptography.x509.oid import NameOID

    names = cert.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else cert.subject.rfc4514_string()


def fingerprint(cert: x509.Certificate) -> str:
    """SHA-256 of the certificate, in hexadecimal."""
    from cryptography.hazmat.primitives import hashes

    return cert.fingerprint(hashes.SHA256()).hex()


def to_pem(cert: x509.Certificate) -> str:
    """A certificate as PEM."""
    from cryptography.hazmat.primitives import serialization

    return cert.public_bytes(serialization.Encoding.PEM).decode()


def _make_root(name: str) -> tuple[EllipticCurvePrivateKey, x509.Certificate]:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = _subject(name, " root")
    now = datetime.now(UTC)
    cert = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - CLOCK_SLACK)
        .not_valid_after(now + timedelta(days=365 * ROOT_YEARS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return key, cert


def _make_leaf(
    name: str, root_key: EllipticCurvePrivateKey, root: x509.Certificate
) -> tuple[EllipticCurvePrivateKey, x509.Certificate]:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier

    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    end = min(now + timedelta(days=365 * LEAF_YEARS), root.not_valid_after_utc)
    purposes = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION, ObjectIdentifier(CLAIM_SIGNING)])
    cert = (
        x509.CertificateBuilder(root.subject, _subject(name), key.public_key(), x509.random_serial_number())
        .not_valid_before(max(now - CLOCK_SLACK, root.not_valid_before_utc))
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(purposes, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(root_key, hashes.SHA256())
    )
    return key, cert


def _subject(name: str, suffix: str = "") -> x509.Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, name),
            x509.NameAttribute(NameOID.COMMON_NAME, name[: MAX_NAME_CHARACTERS - len(suffix)] + suffix),
        ]
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _external(file: Path) -> Identity:
    words = json_object(_private(file).decode("utf-8", "replace"), str(file))
    chain, command = words.get("chain_pem"), words.get("command")
    if not isinstance(chain, str) or not isinstance(command, list) or not all(isinstance(w, str) for w in command):
        raise TrustError(f"{file} does not name a chain and a command", "sorano keys init --chain FILE --command ...")
    leaf = certificates(chain, str(file))[0]
    check_validity(leaf)
    return Identity(chain, lambda data: _signed_by(command, data))


def _signed_by(command: list[str], data: bytes) -> bytes:
    from cryptography.hazmat.primitives.asymmetric import utils

    try:
        done = subprocess.run(command, input=data, capture_output=True, check=False, timeout=EXTERNAL_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise TrustError(f"the signing command {command[0]} did not answer: {error}") from error
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip()[-300:]
        raise TrustError(f"the signing command {command[0]} ended with {done.returncode}: {said}")
    if len(done.stdout) == 2 * COORDINATE_BYTES:
        return done.stdout
    try:
        r, s = utils.decode_dss_signature(done.stdout)
        return r.to_bytes(COORDINATE_BYTES, "big") + s.to_bytes(COORDINATE_BYTES, "big")
    except (ValueError, OverflowError) as error:
        raise TrustError(
            f"the signing command {command[0]} answered {len(done.stdout)} bytes that are no ES256 signature"
        ) from error


# Files.


def _info(kind: str, cert: x509.Certificate, file: Path) -> KeyInfo:
    until = f"{cert.not_valid_after_utc:%Y-%m-%d}"
    return KeyInfo(kind, common_name(cert), fingerprint(cert)[:16], until, str(file))


def _carrier_file(carrier_id: str) -> Path:
    return config_folder() / "carriers" / f"{carrier_id}.json"


def parse_carrier(data: bytes, where: str) -> WatermarkKey:
    words = json_object(data.decode("utf-8", "replace"), where)
    try:
        carrier = WatermarkKey(str(words["id"]), bytes.fromhex(str(words["key"])), str(words["made"]))
        int(carrier.id, 16)
    except (KeyError, ValueError) as error:
        raise TrustError(f"{where} holds no carrier key: {error}") from error
    if len(carrier.key) != CARRIER_BYTES or len(carrier.id) != 16:
        raise TrustError(f"{where} holds a carrier key of {len(carrier.key)} bytes instead of {CARRIER_BYTES}")
    return carrier


def json_object(text: str, where: str) -> dict[str, Any]:
    try:
        words = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TrustError(f"{where} is not JSON: {error}") from error
    if not isinstance(words, dict):
        raise TrustError(f"{where} is not a JSON object")
    return words


def _certificate(file: Path) -> x509.Certificate:
    return certificates(read_guarded(file).decode("ascii", "replace"), str(file))[0]


def _private_key(file: Path) -> EllipticCurvePrivateKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey

    try:
        key = serialization.load_pem_private_key(_private(file), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise TrustError(f"the key {file} cannot be read: {error}", "restore it, or sorano keys rotate") from error
    if not isinstance(key, EllipticCurvePrivateKey) or not isinstance(key.curve, SECP256R1):
        raise TrustError(f"the key {file} is not one of P-256")
    return key


def _private(file: Path) -> bytes:
    """A secret's bytes. Raises TrustError where others than its owner may read it."""
    data = read_guarded(file)
    if os.name == "posix" and file.stat().st_mode & 0o077:
        raise TrustError(f"{file} can be read by others than its owner", f"chmod 600 {file}")
    return data


def check_guarded(place: Path) -> None:
    """Raises TrustError for a folder or a file of keys or trust that others than its owner can write to.

    Its owner must be this user or the system's administrator. Nothing is checked where there are no POSIX modes.
    """
    if os.name != "posix":
        return
    try:
        found = place.stat()
    except OSError as error:
        raise TrustError(f"{place} cannot be read: {error.strerror}") from error
    if found.st_uid not in (os.geteuid(), 0):
        raise TrustError(
            f"{place} belongs to another user (number {found.st_uid}), who could change what is trusted here",
            f"take it over (chown), or name a folder of your own: SORANO_CONFIG=/path; this is user {os.geteuid()}",
        )
    if found.st_mode & 0o022:
        raise TrustError(
            f"{place} can be written to by others, who could change what is trusted here", f"chmod go-w {place}"
        )


def read_guarded(file: Path) -> bytes:
    """A file of keys or trust. Raises TrustError where others can write to it."""
    check_guarded(file)
    return _read(file)


def make_folder(folder: Path) -> None:
    """Makes a folder of keys or trust, and its configuration folder, for their owner alone."""
    for place in (config_folder(), folder):
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            place.mkdir(exist_ok=True, mode=0o700)


def _read(file: Path) -> bytes:
    try:
        if file.stat().st_size > MAX_FILE_BYTES:
            raise TrustError(f"{file} is larger than any key or certificate")
        return file.read_bytes()
    except OSError as error:
        raise TrustError(f"{file} cannot be read: {error.strerror}") from error


def _write_pair(folder: Path, name: str, key: EllipticCurvePrivateKey, cert: x509.Certificate) -> None:
    from cryptography.hazmat.primitives import serialization

    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    write_private(folder / f"{name}.key", pem)
    write_private(folder / f"{name}.pem", to_pem(cert).encode())


def write_private(file: Path, data: bytes) -> None:
    """All or nothing, and never readable by others, not for a moment."""
    files.write_atomic(file, data, private=True)


@contextmanager
def _complaints(where: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TrustError(
            f"keys cannot be kept in {where}: {error.strerror}", "name another folder: SORANO_CONFIG=/path"
        ) from error


def _now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
