"""C2PA credentials: who signed a file, what they say it is, and whether its bytes are as they were signed.

What Sorano makes is `c2pa.created` by `trainedAlgorithmicMedia`; an edit is `compositeWithTrainedAlgorithmicMedia`
with its source as ingredient; a recording is `digitalCapture`. The manifest also signs the mark's id and a fingerprint
of the frames (soft bindings), digests of the request and of the model, a private carrier's commitment, and the boxes of
an MP4 that C2PA's own hash leaves out. A manifest can be read without its file: then only the signature is judged.

Not covered: whether what a signer says is true, that the certificate's name is a person's, revocation, WebM and MKV
(C2PA has no place in them), time stamps unless SORANO_TSA names an authority (without one, a signature counts until its
certificate ends). Nothing is fetched when a file is read.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sorano.errors import TrustError, VideoError
from sorano.trust import containers, keys
from sorano.video import beside

SOURCE_TYPES = {
    "made": "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia",
    "edited": "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia",
    "captured": "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture",
}
KIND_WORDS = {
    "made": "made by AI",
    "edited": "edited with AI",
    "captured": "recorded by a camera or a microphone",
}
MARK_ALGORITHM = "org.sorano.mark.1"
FINGERPRINT_ALGORITHM = "org.sorano.fingerprint.1"
RECORD_LABEL, CONTAINER_LABEL = "org.sorano.record", "org.sorano.container"
BYTES_CHANGED = {"assertion.bmffHash.mismatch", "assertion.dataHash.mismatch", "assertion.boxesHash.mismatch"}
ENDED = {"signingCredential.expired", "claimSignature.outsideValidity", "timeStamp.outsideValidity"}
UNTRUSTED = {"signingCredential.untrusted"}
MAX_STORE_BYTES = 20_000_000


@dataclass(frozen=True)
class Ingredient:
    """A file that went into another: its place, and whether it is the source ("parentOf") or an input ("inputTo")."""

    path: Path
    relationship: str
    title: str


@dataclass(frozen=True)
class Statement:
    """What a signer says about a file."""

    kind: str  # made, edited, captured
    title: str | None = None
    mark_id: int | None = None
    carrier: keys.Carrier | None = None  # the private carrier, of which only the commitment is signed
    fingerprint: bytes | None = None
    record: Mapping[str, Any] = field(
        default_factory=dict
    )  # digests of request and model, the prompt if it may be told
    ingredients: Sequence[Ingredient] = ()


@dataclass(frozen=True)
class Credential:
    """A manifest as it was found. `problems` are the codes and words of what does not hold."""

    state: str  # trusted, valid (signed by somebody unknown), ended, changed, broken
    signer: str | None = None
    serial: str | None = None
    signed_at: str | None = None  # only where an authority stamped the time
    generator: str | None = None
    kind: str | None = None
    mark_id: int | None = None
    carrier_id: str | None = None
    commitment: str | None = None
    fingerprint: bytes | None = None
    record: Mapping[str, Any] = field(default_factory=dict)
    ingredients: tuple[str, ...] = ()
    problems: tuple[tuple[str, str], ...] = ()

    @property
    def signature_holds(self) -> bool:
        """Whether the manifest itself is as its signer made it, whatever became of the file."""
        return self.state in ("trusted", "valid", "ended", "changed")


def sign(path: Path, statement: Statement, signer: keys.Identity) -> bytes:
    """Signs a file in place, all or nothing, and returns the manifest store. Raises TrustError."""
    import c2pa

    container = containers.sniff(path)
    if not container.signable:
        raise TrustError(f"C2PA has no place for a signature in {path.suffix or container.mime} files", "use MP4")
    keys.check_validity(signer.leaf)
    failed: list[TrustError] = []

    def answer(data: bytes) -> bytes:
        try:
            return signer.sign(data)
        except TrustError as error:
            failed.append(error)
            raise

    definition = json.dumps(_definition(path, statement))
    try:
        with (
            _context("") as context,
            c2pa.Signer.from_callback(
                answer, c2pa.C2paSigningAlg.ES256, signer.chain_pem, os.environ.get("SORANO_TSA") or None
            ) as native,
            c2pa.Builder(definition, context) as builder,
            beside(path) as temporary,
        ):
            for index, ingredient in enumerate(statement.ingredients):
                words = {
                    "title": ingredient.title,
                    "relationship": ingredient.relationship,
                    "label": f"ingredient{index}",
                }
                mime = containers.sniff(ingredient.path).mime
                with open(ingredient.path, "rb") as stream:
                    builder.add_ingredient(json.dumps(words), mime, stream)
            with open(path, "rb") as source, open(temporary, "w+b") as target:
                store = bytes(builder.sign(native, container.mime, source, target))
            os.replace(temporary, path)
    except c2pa.C2paError as error:
        raise failed[0] if failed else TrustError(f"{path} could not be signed: {_words(error)}") from error
    except OSError as error:
        raise TrustError(f"{path} could not be signed: {error.strerror}", "free some space") from error
    return store


def read(path: Path, anchors: str) -> Credential | None:
    """The credential in a file, judged under the trusted roots; None where there is none. Raises VideoError."""
    import c2pa

    container = containers.sniff(path)
    if not container.signable:
        return None
    try:
        with _context(anchors) as context, open(path, "rb") as stream:
            with c2pa.Reader(container.mime, stream, context=context) as reader:
                found = _credential(json.loads(reader.json()))
    except c2pa.C2paError as error:
        if not containers.has_c2pa(path):
            return None
        return Credential("broken", problems=(("manifest.unreadable", _words(error)),))
    except OSError as error:
        raise VideoError(f"{path} cannot be read: {error.strerror}") from error
    return _strict(path, found)


def read_store(store: bytes, anchors: str) -> Credential | None:
    """A manifest without its file: its signature and its own assertions are judged, the file's bytes are not.

    The state is trusted, valid, ended or broken; None where it cannot be read at all.
    """
    import c2pa

    if len(store) > MAX_STORE_BYTES:
        return None
    try:
        with _context(anchors) as context:
            with c2pa.Reader("application/c2pa", io.BytesIO(store), context=context) as reader:
                return _credential(json.loads(reader.json()), detached=True)
    except c2pa.C2paError:
        return None


def _context(anchors: str) -> Any:
    import c2pa

    settings: dict[str, Any] = {
        "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False, "verify_trust": True},
        "builder": {"thumbnail": {"enabled": False}},
    }
    if anchors.strip():
        settings["trust"] = {"trust_anchors": anchors}
    return c2pa.Context.from_dict(settings)


def _definition(path: Path, statement: Statement) -> dict[str, Any]:
    from sorano import __version__

    agent = {"name": "Sorano", "version": __version__}
    source = SOURCE_TYPES[statement.kind]
    given = list(enumerate(statement.ingredients))
    parents = [f"ingredient{index}" for index, one in given if one.relationship == "parentOf"]
    inputs = [f"ingredient{index}" for index, one in given if one.relationship != "parentOf"]
    parameters = {"parameters": {"ingredientIds": inputs}} if inputs else {}
    actions: list[dict[str, Any]]
    if statement.kind == "edited" and statement.ingredients:
        actions = [
            {"action": "c2pa.opened", "parameters": {"ingredientIds": parents}},
            {"action": "c2pa.edited", "digitalSourceType": source, "softwareAgent": agent, **parameters},
        ]
    else:
        actions = [{"action": "c2pa.created", "digitalSourceType": source, "softwareAgent": agent, **parameters}]
    bound = []
    if statement.mark_id is not None:
        actions.append({"action": "c2pa.watermarked.bound", "softwareAgent": agent})
        value = base64.b64encode(statement.mark_id.to_bytes(8, "big")).decode()
        bound.append({"alg": MARK_ALGORITHM, "blocks": [{"scope": {}, "value": value}]})
    if statement.fingerprint is not None:
        value = base64.b64encode(statement.fingerprint).decode()
        bound.append({"alg": FINGERPRINT_ALGORITHM, "blocks": [{"scope": {}, "value": value}]})
    record = dict(statement.record)
    if statement.carrier is not None:
        record["carrier"] = {"id": statement.carrier.id, "commitment": statement.carrier.commitment}
    assertions = [("c2pa.actions.v2", {"actions": actions}), *(("c2pa.soft-binding", one) for one in bound)]
    assertions.append((RECORD_LABEL, record))
    left_out = containers.excluded_by_c2pa(path)
    if left_out is not None:
        assertions.append((CONTAINER_LABEL, {"sha256": hashlib.sha256(left_out).hexdigest()}))
    return {
        "claim_generator_info": [agent],
        "title": (statement.title or path.name)[:200],
        "assertions": [{"label": label, "data": data, "created": True} for label, data in assertions],
    }


def _credential(document: Mapping[str, Any], *, detached: bool = False) -> Credential:
    """The reader's JSON in our words. A state is only ever as good as every code allows."""
    manifest = document.get("manifests", {}).get(document.get("active_manifest"), {})
    results = document.get("validation_results", {})
    active = results.get("activeManifest", {})
    success = {one.get("code") for one in active.get("success", [])}
    failures = [(str(one.get("code")), str(one.get("explanation", ""))) for one in active.get("failure", [])]
    for delta in results.get("ingredientDeltas", []) or []:
        inner = delta.get("validationDeltas", {}).get("failure", [])
        failures += [(str(one.get("code")), str(one.get("explanation", ""))) for one in inner]
    if detached:
        failures = [one for one in failures if one[0] not in BYTES_CHANGED]
    codes = {code for code, _ in failures}
    signed = "claimSignature.validated" in success
    if signed and not codes and (document.get("validation_state") == "Trusted" or detached):
        state = "trusted" if "signingCredential.trusted" in success else "valid"
    elif signed and codes and codes <= UNTRUSTED and (document.get("validation_state") == "Valid" or detached):
        state = "valid"
    elif signed and codes <= UNTRUSTED | ENDED:
        state = "ended"
    elif signed and codes <= UNTRUSTED | ENDED | BYTES_CHANGED:
        state = "changed"
    else:
        state = "broken"
    info = manifest.get("signature_info", {}) or {}
    found = _assertions(manifest)
    generator: Mapping[str, Any] = next(iter(manifest.get("claim_generator_info", []) or []), {})
    titles = [str(one.get("title", "untitled"))[:200] for one in manifest.get("ingredients", []) or []]
    return Credential(
        state=state,
        signer=info.get("common_name") or info.get("issuer"),
        serial=info.get("cert_serial_number"),
        signed_at=info.get("time"),
        generator=" ".join(str(generator[name]) for name in ("name", "version") if name in generator) or None,
        ingredients=tuple(titles),
        problems=tuple(failures),
        **found,
    )


def _assertions(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What we look for among a manifest's assertions, tolerant of anything else."""
    found: dict[str, Any] = {}
    for assertion in manifest.get("assertions", []) or []:
        label, data = str(assertion.get("label", "")), assertion.get("data")
        if not isinstance(data, dict):
            continue
        if label.startswith("c2pa.actions"):
            types = [one.get("digitalSourceType") for one in data.get("actions", []) if isinstance(one, dict)]
            for kind, source in SOURCE_TYPES.items():
                if source in types:
                    found.setdefault("kind", kind)
        elif label.startswith("c2pa.soft-binding"):
            blocks = data.get("blocks") or [{}]
            with suppress(ValueError, TypeError, AttributeError):
                value = base64.b64decode(blocks[0].get("value", ""), validate=True)
                if data.get("alg") == MARK_ALGORITHM and len(value) == 8:
                    found["mark_id"] = int.from_bytes(value, "big")
                elif data.get("alg") == FINGERPRINT_ALGORITHM:
                    found["fingerprint"] = value
        elif label.startswith(RECORD_LABEL):
            found["record"] = data
            carrier = data.get("carrier")
            if isinstance(carrier, dict):
                found["carrier_id"] = str(carrier.get("id"))
                found["commitment"] = str(carrier.get("commitment"))
    container = next((a.get("data") for a in manifest.get("assertions", []) if a.get("label") == CONTAINER_LABEL), None)
    if isinstance(container, dict):
        found["record"] = {**found.get("record", {}), CONTAINER_LABEL: container}
    return found


def _strict(path: Path, found: Credential) -> Credential:
    """Our own files leave no byte uncovered: what C2PA's hash and signature pass over is compared too."""
    if found.state not in ("trusted", "valid", "ended") or not (found.generator or "").startswith("Sorano"):
        return found
    problem = None
    try:
        wanted = found.record.get(CONTAINER_LABEL)
        left_out = containers.excluded_by_c2pa(path)
        if left_out is not None:
            digest = hashlib.sha256(left_out).hexdigest()
            if not isinstance(wanted, Mapping) or wanted.get("sha256") != digest:
                problem = "bytes that C2PA's own hash leaves out (ftyp, free, skip or mfra boxes) were changed"
        store = containers.c2pa_store(path)
        if store is not None:
            containers.check_jumbf(store)
    except VideoError as error:
        problem = error.message
    if problem is None:
        return found
    words = {**found.__dict__, "state": "changed", "problems": (*found.problems, ("org.sorano.strict", problem))}
    return Credential(**words)


def _words(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
