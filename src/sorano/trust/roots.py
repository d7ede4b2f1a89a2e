"""Trust: whose signatures count on this machine.

One's own root counts; others' are added by hand (`sorano trust add root.pem`), as are disclosed carrier keys.
Nothing is fetched, and no list comes with Sorano: a root is trusted because somebody here decided so.

Not covered: revocation lists and OCSP, chains longer than a leaf, three intermediates and a root, name constraints.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from sorano.errors import RequestError, TrustError
from sorano.trust import keys

if TYPE_CHECKING:
    from cryptography import x509

MAX_INTERMEDIATES = 3


@dataclass(frozen=True)
class Root:
    """A trusted certificate, or a disclosed carrier, as `sorano trust list` shows it."""

    kind: str  # own, root, carrier
    name: str
    fingerprint: str
    valid_until: str


def trust_folder() -> Path:
    """Where added roots and disclosed carriers lie."""
    return keys.config_folder() / "trust"


def anchors(extra: Path | None = None) -> str:
    """Every trusted root as one PEM text: one's own, the added ones, those in `extra`. Empty where there are none."""
    pems = keys.own_roots()
    folder = trust_folder()
    if folder.is_dir():
        pems += [read_text(file) for file in sorted(folder.glob("*.pem"))]
    if extra is not None:
        pems += [keys.to_pem(cert) for cert in _roots_in(extra)]
    return "".join(pem if pem.endswith("\n") else pem + "\n" for pem in pems)


def add(file: Path) -> list[Root]:
    """Trusts the roots in a PEM file, or a disclosed carrier whose signer is trusted already."""
    text = read_text(file)
    if text.lstrip().startswith("{"):
        carrier, signer = keys.read_bundle(text, str(file), anchors())
        _write(trust_folder() / f"carrier-{carrier.id}.json", text)
        return [Root("carrier", f"{carrier.id}, disclosed by {signer}", carrier.commitment[:16], "-")]
    added = []
    for cert in _roots_in(file):
        _write(trust_folder() / f"{keys.fingerprint(cert)[:16]}.pem", keys.to_pem(cert))
        added.append(_shown("root", cert))
    return added


def remove(name: str) -> list[Root]:
    """Trusts no longer what has this name or begins with this fingerprint. One's own root always counts."""
    if not name:
        raise RequestError("name what is no longer trusted: a fingerprint or a name", "sorano trust list shows them")
    gone = []
    for file, root in _added():
        if name in (root.name, root.name.split(",")[0]) or root.fingerprint.startswith(name.lower()):
            file.unlink()
            gone.append(root)
    if not gone:
        raise RequestError(
            f"nothing that was added is called {name!r}", "sorano trust list shows names and fingerprints"
        )
    return gone


def list_roots() -> list[Root]:
    """What is trusted here."""
    own = [_shown("own", keys.certificates(pem, "an own root")[0]) for pem in keys.own_roots()]
    return own + [root for _, root in _added()]


def disclosed_carriers() -> list[keys.Carrier]:
    """Carriers whose keys were disclosed by signers that are still trusted; others are passed over."""
    found = []
    trusted = anchors()
    for file in sorted(trust_folder().glob("carrier-*.json")):
        try:
            found.append(keys.read_bundle(read_text(file), str(file), trusted)[0])
        except TrustError:
            continue  # its signer was removed since
    return found


def require_signature(chain_pem: str, signature: bytes, data: bytes, anchors_pem: str, where: str) -> x509.Certificate:
    """The leaf whose ES256 signature over `data` holds, under a trusted root. Raises TrustError otherwise."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, utils

    leaf = require_chain(chain_pem, anchors_pem, where)
    public = leaf.public_key()
    size = keys.COORDINATE_BYTES
    if not isinstance(public, ec.EllipticCurvePublicKey) or len(signature) != 2 * size:
        raise TrustError(f"{where} is not signed with ES256")
    r, s = int.from_bytes(signature[:size], "big"), int.from_bytes(signature[size:], "big")
    try:
        public.verify(utils.encode_dss_signature(r, s), data, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as error:
        raise TrustError(f"the signature of {where} does not hold") from error
    return leaf


def require_chain(chain_pem: str, anchors_pem: str, where: str) -> x509.Certificate:
    """The leaf of a chain that ends under a trusted root and is valid now. Raises TrustError otherwise."""
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature

    chain = keys.certificates(chain_pem, where)
    trusted = keys.certificates(anchors_pem, "the trusted roots") if anchors_pem.strip() else []
    if len(chain) > MAX_INTERMEDIATES + 2:
        raise TrustError(f"{where} has a chain of {len(chain)} certificates")
    if _is_authority(chain[0]):
        raise TrustError(f"{where} is signed by a certificate that is meant for certificates")
    wanted = chain[0]
    for step in range(len(chain)):
        keys.check_validity(wanted, datetime.now(UTC))
        for root in trusted:
            try:
                wanted.verify_directly_issued_by(root)
                keys.check_validity(root)
                return chain[0]
            except (ValueError, TypeError, InvalidSignature):
                continue
        issuer = chain[step + 1] if step + 1 < len(chain) else None
        if issuer is None or not _is_authority(issuer):
            break
        try:
            wanted.verify_directly_issued_by(issuer)
        except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
            break
        wanted = issuer
    raise TrustError(
        f"{where} is signed by {keys.common_name(chain[0])}, under no root that is trusted here",
        "if you know them, ask for their root and run: sorano trust add root.pem",
    )


def read_text(file: Path) -> str:
    """A small text file. Raises TrustError where it cannot be read."""
    try:
        if file.stat().st_size > keys.MAX_FILE_BYTES:
            raise TrustError(f"{file} is larger than any certificate or bundle")
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise TrustError(f"{file} cannot be read: {error.strerror}") from error


def _roots_in(file: Path) -> list[x509.Certificate]:
    """The authorities in a PEM file. Raises TrustError where there is none."""
    found = [cert for cert in keys.certificates(read_text(file), str(file)) if _is_authority(cert)]
    if not found:
        raise TrustError(
            f"{file} holds no root: none of its certificates may sign others", "ask for what sorano keys export prints"
        )
    return found


def _is_authority(cert: x509.Certificate) -> bool:
    from cryptography import x509

    try:
        return cert.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False


def _added() -> list[tuple[Path, Root]]:
    found = []
    for file in sorted(trust_folder().glob("*.pem")):
        found.append((file, _shown("root", keys.certificates(read_text(file), str(file))[0])))
    for file in sorted(trust_folder().glob("carrier-*.json")):
        name = file.stem.removeprefix("carrier-")
        found.append((file, Root("carrier", name, name, "-")))
    return found


def _shown(kind: str, cert: x509.Certificate) -> Root:
    return Root(kind, keys.common_name(cert), keys.fingerprint(cert)[:16], f"{cert.not_valid_after_utc:%Y-%m-%d}")


def _write(file: Path, text: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, file)
    except OSError as error:
        raise TrustError(f"{file} cannot be written: {error.strerror}", "SORANO_CONFIG names another folder") from error
