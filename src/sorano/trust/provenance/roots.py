"""Trust: whose signatures count on this machine, and under which names.

One's own root counts; others' are added by hand (`sorano trust add root.pem --name "Studio A"`), as are disclosed
carrier keys. A signer is called by the name that its root has here; what its own certificate says is its claim. A root
may be trusted for some names only. Nothing is fetched, and no list comes with Sorano: a root is trusted because
somebody here decided so. Files that others than their owner can write to are refused.

Not covered: revocation lists and OCSP, chains longer than a leaf, three intermediates and a root, name constraints.
"""

from __future__ import annotations

import base64
import json
import unicodedata
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from sorano.errors import RequestError, TrustError
from sorano.files import canonical
from sorano.trust.printable import printable
from sorano.trust.provenance import keys

if TYPE_CHECKING:
    from cryptography import x509

MAX_INTERMEDIATES = 3
MAX_NAMES = 32  # that a root is trusted for


@dataclass(frozen=True)
class Root:
    """A trusted certificate, or a disclosed carrier, as `sorano trust list` shows it."""

    kind: str  # own, root, carrier, given
    name: str  # the name that it has here
    fingerprint: str
    valid_until: str
    subject: str = ""  # what its certificate calls itself
    only_for: tuple[str, ...] = ()  # the signers' names that it is trusted for; empty: all


@dataclass(frozen=True)
class Anchor:
    """A trusted root with its certificate."""

    root: Root
    pem: str = field(repr=False)

    @property
    def name(self) -> str:
        """The name that signers under it are called by here."""
        return self.root.name

    def is_for(self, signer: str | None) -> bool:
        """Whether it is trusted for signers of this name."""
        return not self.root.only_for or (signer is not None and _same(signer) in map(_same, self.root.only_for))


class Trust(str):
    """Every trusted root as one PEM text, with the roots themselves and their names here in `anchors`."""

    anchors: tuple[Anchor, ...] = ()

    @classmethod
    def of(cls, found: Sequence[Anchor]) -> Trust:
        """The roots, each once; two that share a name are told apart by their fingerprints."""
        unique = list({one.pem: one for one in reversed(found)}.values())[::-1]
        names = [_same(one.name) for one in unique]
        told = []
        for one, name in zip(unique, names, strict=True):
            clash = names.count(name) > 1 and one.root.kind != "own"
            called = f"{one.name} ({one.root.fingerprint})" if clash else one.name
            told.append(replace(one, root=replace(one.root, name=called)))
        made = cls("".join(one.pem for one in told))
        made.anchors = tuple(told)
        return made

    @classmethod
    def from_pem(cls, pem: str) -> Trust:
        """The roots in a PEM text under their own names; what is a Trust already comes back as it is."""
        if isinstance(pem, Trust):
            return pem
        certs = keys.certificates(pem, "the trusted roots") if pem.strip() else []
        return cls.of([Anchor(_shown("given", cert), keys.to_pem(cert)) for cert in certs])

    def subjects(self) -> list[bytes]:
        """The subjects of the roots, as they stand (DER) in the certificates that they issued."""
        return [keys.certificates(one.pem, "a root")[0].subject.public_bytes() for one in self.anchors]

    def behind(self, holds: Callable[[str], bool]) -> Anchor | None:
        """The root under which `holds` is true, a question about a PEM text of roots that is true of all of them.

        None where no single root answers it.
        """
        some = list(self.anchors)
        if len(some) == 1:
            return some[0]
        while len(some) > 1:
            half = some[: len(some) // 2]
            some = half if holds("".join(one.pem for one in half)) else some[len(some) // 2 :]
        return some[0] if some and holds(some[0].pem) else None


def trust_folder() -> Path:
    """Where added roots and disclosed carriers lie."""
    return keys.config_folder() / "trust"


def anchors(extra: Path | None = None) -> Trust:
    """Every trusted root: one's own, the added ones, those in the PEM file `extra`. Empty where there are none.

    Raises TrustError for a trust folder or a file in it that others can write to.
    """
    found = []
    for pem in keys.own_roots():
        found += [Anchor(_shown("own", cert), keys.to_pem(cert)) for cert in keys.certificates(pem, "an own root")]
    for file, root in _added():
        if root.kind == "root":
            found.append(Anchor(root, keys.to_pem(keys.certificates(keys.read_guarded(file).decode(), str(file))[0])))
    if extra is not None:
        found += [Anchor(_shown("given", cert), keys.to_pem(cert)) for cert in _roots_in(extra)]
    return Trust.of(found)


def add(file: Path, name: str | None = None, only_for: Sequence[str] = ()) -> list[Root]:
    """Trusts the roots in a PEM file, or a disclosed carrier whose signer is trusted already.

    `name` is what the root is called here (its own name otherwise), `only_for` the names that it may sign under.
    Raises RequestError for a name that another root has here.
    """
    text = read_text(file)
    if text.lstrip().startswith("{"):
        carrier, signer = read_bundle(text, str(file), anchors())
        _write(trust_folder() / f"carrier-{carrier.id}.json", text)
        return [Root("carrier", f"{carrier.id}, disclosed by {signer}", carrier.commitment[:16], "-")]
    certs = _roots_in(file)
    if name is not None and len(certs) > 1:
        raise RequestError(f"{file} holds {len(certs)} roots, and one name was given", "add them one by one")
    for text in (*only_for, *([] if name is None else [name])):
        if not 0 < len(text) <= keys.MAX_NAME_CHARACTERS or not text.isprintable():
            raise RequestError(f"a name has 1 to {keys.MAX_NAME_CHARACTERS} printable characters: got {text!r}")
    if len(only_for) > MAX_NAMES:
        raise RequestError(f"a root is trusted for at most {MAX_NAMES} names, or for all")
    known = anchors().anchors
    added = []
    for cert in certs:
        root = _shown("root", cert)
        root = replace(root, name=name or root.name, only_for=tuple(only_for))
        rival = next((one.root for one in known if _same(one.name) == _same(root.name)), None)
        if rival is not None and rival.fingerprint != root.fingerprint:
            raise RequestError(
                f"another root is called {printable(root.name)} here ({rival.fingerprint})",
                "give this one a name of its own: --name",
            )
        _write(trust_folder() / f"{root.fingerprint}.pem", keys.to_pem(cert))
        words = {"name": root.name, "only_for": list(root.only_for)}
        _write(trust_folder() / f"{root.fingerprint}.name", json.dumps(words))
        added.append(root)
    return added


def remove(name: str) -> list[Root]:
    """Trusts no longer what has this name or begins with this fingerprint. One's own root always counts."""
    if not name:
        raise RequestError("name what is no longer trusted: a fingerprint or a name", "sorano trust list shows them")
    gone = []
    for file, root in _added():
        if name in (root.name, root.subject, root.name.split(",")[0]) or root.fingerprint.startswith(name.lower()):
            file.unlink()
            with suppress(FileNotFoundError):
                file.with_suffix(".name").unlink()
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


def read_bundle(text: str, where: str, anchors: str) -> tuple[keys.WatermarkKey, str]:
    """The carrier in a disclosure and its signer's name. Raises TrustError unless a trusted root stands behind it."""
    words = keys.json_object(text, where)
    signature = words.pop("signature", None)
    if words.get("type") != keys.BUNDLE or not isinstance(signature, str) or not isinstance(words.get("chain"), str):
        raise TrustError(f"{where} is no disclosure of a carrier")
    carrier = keys.parse_carrier(text.encode(), where)
    try:
        raw = base64.b64decode(signature, validate=True)
    except ValueError as error:
        raise TrustError(f"{where} has a signature that cannot be read") from error
    leaf = require_signature(words["chain"], raw, canonical(words), anchors, where)
    return carrier, signer_called(words["chain"], leaf, anchors, where)


def disclosed_carriers() -> list[keys.WatermarkKey]:
    """Carriers whose keys were disclosed by signers that are still trusted; others are passed over."""
    found = []
    trusted = anchors()
    for file, root in _added():
        if root.kind != "carrier":
            continue
        try:
            found.append(read_bundle(keys.read_guarded(file).decode("utf-8", "replace"), str(file), trusted)[0])
        except TrustError:
            continue  # its signer was removed since
    return found


def require_signature(chain_pem: str, signature: bytes, data: bytes, anchors_pem: str, where: str) -> x509.Certificate:
    """The leaf whose ES256 signature over `data` holds, under a trusted root. Raises TrustError otherwise."""
    leaf = require_chain(chain_pem, anchors_pem, where)
    check_es256(leaf, signature, data, where)
    return leaf


def check_es256(leaf: x509.Certificate, signature: bytes, data: bytes, where: str) -> None:
    """Raises TrustError unless a signature over `data`, r and s in a row, is one of the leaf's key."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, utils

    public = leaf.public_key()
    size = keys.COORDINATE_BYTES
    if not isinstance(public, ec.EllipticCurvePublicKey) or len(signature) != 2 * size:
        raise TrustError(f"{where} is not signed with ES256")
    r, s = int.from_bytes(signature[:size], "big"), int.from_bytes(signature[size:], "big")
    try:
        public.verify(utils.encode_dss_signature(r, s), data, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as error:
        raise TrustError(f"the signature of {where} does not hold") from error


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
        f"{where} is signed by {printable(keys.common_name(chain[0]))}, under no root that is trusted here",
        "if you know them, ask for their root and run: sorano trust add root.pem",
    )


def signer_called(chain_pem: str, leaf: x509.Certificate, anchors_pem: str, where: str) -> str:
    """The name here of the root behind a chain that is trusted. Raises TrustError where it is not for this signer."""

    def holds(pem: str) -> bool:
        with suppress(TrustError):
            require_chain(chain_pem, pem, where)
            return True
        return False

    anchor = Trust.from_pem(anchors_pem).behind(holds)
    claimed = keys.common_name(leaf)
    if anchor is None or not anchor.is_for(claimed):
        raise TrustError(f"{where} is signed by {printable(claimed)}, for whom no root is trusted here")
    return printable(anchor.name)


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
    folder = trust_folder()
    if not folder.is_dir():
        return []
    keys.check_guarded(keys.config_folder())
    keys.check_guarded(folder)
    found = []
    for file in sorted(folder.glob("*.pem")):
        root = _shown("root", keys.certificates(keys.read_guarded(file).decode("ascii", "replace"), str(file))[0])
        found.append((file, _named(file.with_suffix(".name"), root)))
    for file in sorted(folder.glob("carrier-*.json")):
        name = file.stem.removeprefix("carrier-")
        found.append((file, Root("carrier", name, name, "-")))
    return found


def _named(file: Path, root: Root) -> Root:
    """The root with the name and the limits that were written down when it was added."""
    if not file.exists():
        return root
    try:
        words = json.loads(keys.read_guarded(file))
        name, only_for = words["name"], words["only_for"]
        if not isinstance(name, str) or not all(isinstance(one, str) for one in only_for):
            raise TypeError("names are texts")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise TrustError(f"{file} does not say a root's name: {error}", "remove the root, and add it anew") from error
    return replace(root, name=name, only_for=tuple(only_for))


def _shown(kind: str, cert: x509.Certificate) -> Root:
    subject = keys.common_name(cert)
    until = f"{cert.not_valid_after_utc:%Y-%m-%d}"
    return Root(kind, subject.removesuffix(" root") or subject, keys.fingerprint(cert)[:16], until, subject)


def _same(name: str) -> str:
    """A name as it is compared: without case, forms of letters, and spaces around."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def _write(file: Path, text: str) -> None:
    try:
        keys.make_folder(file.parent)
        keys.write_private(file, text.encode())
    except OSError as error:
        raise TrustError(f"{file} cannot be written: {error.strerror}", "SORANO_CONFIG names another folder") from error
