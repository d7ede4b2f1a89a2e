"""C2PA credentials: who signed a file, what they say it is, and whether its bytes are as they were signed.

What Sorano makes is `c2pa.created` by `trainedAlgorithmicMedia`; an edit is `compositeWithTrainedAlgorithmicMedia`
with its source as ingredient; a recording is `digitalCapture`. The manifest also signs the mark's id and a fingerprint
of the frames (soft bindings), digests of the request and of the model, a private carrier's commitment, an AI disclosure
and the boxes of an MP4 that C2PA's own hash leaves out. A manifest can be read without its file: then only the
signature is judged.

The signer is called by the name that its trusted root has here; what the certificate says is its claim. C2PA's own
`validation_state` decides; codes of assertions that C2PA tolerates are shown. Text from a manifest is printable.

Not covered: whether what a signer says is true, that the certificate's name is a person's, revocation, WebM and MKV
(C2PA has no place in them), time stamps unless SORANO_TSA names an authority (without one, a signature counts until its
certificate ends). Nothing is fetched when a file is read.

Source: C2PA Technical Specification 2.4; the Conformance Program's additional requirements 0.2 (`specVersion`,
`allActionsIncluded`, digital source types of actions).
"""

from __future__ import annotations

import base64
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sorano.errors import TrustError, VideoError
from sorano.trust.printable import printable
from sorano.trust.provenance import containers, embedding, keys, roots
from sorano.trust.provenance.embedding import MAX_STORE_BYTES
from sorano.video import beside

SPEC_VERSION = "2.4.0"  # of the C2PA specification that these manifests follow
SOURCE_TYPES = {
    "made": "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia",
    "edited": "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia",
    "captured": "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture",
}
# Digital source types (IPTC NewsCodes, C2PA 2.4) by which others say that AI made or edited something.
AI_SOURCE_TYPES = frozenset(
    {"trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia", "compositeSynthetic", "trainedAlgorithmicData"}
)  # fmt: skip
KIND_WORDS = {
    "made": "made by AI",
    "edited": "edited with AI",
    "captured": "recorded by a camera or a microphone",
}
GENERATOR = "Sorano"
MARK_ALGORITHM = "org.sorano.mark.1"
FINGERPRINT_ALGORITHM = "org.sorano.fingerprint.1"
RECORD_LABEL, CONTAINER_LABEL = "org.sorano.record", "org.sorano.container"
DISCLOSURE_LABEL = "c2pa.ai-disclosure"
MODEL_TYPE = "c2pa.types.model.pytorch"  # of C2PA's asset types: what the networks here are
BYTES_CHANGED = {"assertion.bmffHash.mismatch", "assertion.dataHash.mismatch", "assertion.boxesHash.mismatch"}
ENDED = {"signingCredential.expired", "claimSignature.outsideValidity", "timeStamp.outsideValidity"}
UNTRUSTED = {"signingCredential.untrusted"}
TOLERATED = ("cawg.",)  # codes of identity assertions, which concern those alone
WHOLE = ("trusted", "valid", "ended", "early")  # states in which no byte was changed since it was signed
STORE_PURPOSES = ("manifest", "original", "update")  # of C2PA boxes that hold manifests (2.4, A.5)
MOST_INGREDIENTS = 64  # that are listed


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
    carrier: keys.WatermarkKey | None = None  # the private carrier, of which only the commitment is signed
    fingerprint: bytes | None = None
    record: Mapping[str, Any] = field(
        default_factory=dict
    )  # digests of request and model, the prompt if it may be told
    ingredients: Sequence[Ingredient] = ()


@dataclass(frozen=True)
class IngredientState:
    """An ingredient as a manifest names it. `state`: trusted, valid (signer unknown here), changed, broken, none."""

    title: str
    relationship: str
    state: str = "none"
    signer: str | None = None
    kind: str | None = None

    @property
    def words(self) -> str:
        """It in a report's words."""
        kind = f", {KIND_WORDS[self.kind]}" if self.kind else ""
        who = self.signer or "somebody"
        said = {
            "trusted": f"signed by {who}, trusted here{kind}",
            "valid": f"signed by {who}, who is unknown here{kind}",
            "changed": f"changed after {who} signed it, before it was used{kind}",
            "broken": "with a credential that did not hold when it was used",
        }.get(self.state, "without a credential")
        return f"{self.title!r} ({said})"


@dataclass(frozen=True)
class Credential:
    """A manifest as it was found. `problems` are the codes and words of what does not hold. All text is printable."""

    state: str  # trusted, valid (signed by somebody unknown), ended, early (not yet valid), changed, broken
    signer: str | None = None  # the trusted root's name here; where none is trusted, what the certificate says
    claimed: str | None = None  # what the certificate says
    root: str | None = None  # the beginning of the trusted root's fingerprint
    serial: str | None = None
    signed_at: str | None = None  # only where an authority stamped the time
    stamp_trusted: bool = False  # whether that authority is known here
    generator: str | None = None
    kind: str | None = None
    says_ai: bool = False  # that AI made or edited it, or something that went into it
    mark_id: int | None = None
    carrier_id: str | None = None
    commitment: str | None = None
    fingerprint: bytes | None = None
    record: Mapping[str, Any] = field(default_factory=dict)
    ingredients: tuple[str, ...] = ()  # their titles
    sources: tuple[IngredientState, ...] = ()  # the same, with what is known of them
    left_out: tuple[str, ...] = ()  # what C2PA's hash does not cover of a file that others made
    tolerated: tuple[tuple[str, str], ...] = ()  # codes that C2PA does not hold against the file
    problems: tuple[tuple[str, str], ...] = ()

    @property
    def signature_holds(self) -> bool:
        """Whether the manifest itself is as its signer made it, whatever became of the file."""
        return self.state in (*WHOLE, "changed")

    @property
    def who(self) -> str:
        """The signer by the name that its root has here, with the certificate's own words where they differ."""
        name = self.signer or "an unnamed signer"
        differs = self.root is not None and self.claimed is not None and self.claimed != name
        return f"{name} (its certificate says {self.claimed!r})" if differs else name


def sign(path: Path, statement: Statement, signer: keys.Identity) -> bytes:
    """Signs a file in place, all or nothing, and returns the manifest store. Raises TrustError."""
    import c2pa

    container = containers.sniff(path)
    if not container.signable:
        raise TrustError(f"C2PA has no place for a signature in {path.suffix or container.mime} files", "use MP4")
    if embedding.has_c2pa(path):
        raise TrustError(f"{path} holds a credential already, which would be lost", "name it as an ingredient")
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
                _add_ingredient(builder, ingredient, f"ingredient{index}")
            with open(path, "rb") as source, open(temporary, "w+b") as target:
                store = bytes(builder.sign(native, container.mime, source, target))
            os.replace(temporary, path)
    except c2pa.C2paError as error:
        raise failed[0] if failed else TrustError(f"{path} could not be signed: {_words(error)}") from error
    except OSError as error:
        raise TrustError(f"{path} could not be signed: {error.strerror}", "free some space") from error
    return store


def _add_ingredient(builder: Any, ingredient: Ingredient, label: str) -> None:
    """A file that went in, with its own manifest, whatever that is worth: C2PA records what did not hold of it.

    One that C2PA has no place in, or whose manifest cannot be taken along, is named without.
    """
    import c2pa

    words = {"title": ingredient.title[:200], "relationship": ingredient.relationship, "label": label}
    with suppress(c2pa.C2paError, VideoError, OSError):  # a damaged manifest, too many parts, a file that is gone
        container = containers.sniff(ingredient.path)
        if container.readable:
            embedding.check_parts(ingredient.path)
            with open(ingredient.path, "rb") as stream:
                builder.add_ingredient(json.dumps(words), container.mime, stream)
            return
    with io.BytesIO() as nothing:
        builder.add_ingredient(json.dumps(words), "application/octet-stream", nothing)


def read(path: Path, anchors: str) -> Credential | None:
    """The credential in a file, judged under the trusted roots; None where there is none. Raises VideoError."""
    container = containers.sniff(path)
    if not container.readable:
        return None
    places = embedding.places(path)
    if places is not None and not places:
        return None
    import c2pa

    embedding.check_parts(path)
    trust = roots.Trust.from_pem(anchors)
    try:
        document, crjson = _documents(container.mime, lambda: open(path, "rb"), trust)
    except c2pa.C2paError as error:
        if places is None or all(one.purpose not in STORE_PURPOSES for one in places):
            return None  # its places are not known here, or none of them is for a manifest
        return Credential("broken", problems=(("manifest.unreadable", _words(error)),))
    except OSError as error:
        raise VideoError(f"{path} cannot be read: {error.strerror}") from error
    found = _credential(document, crjson)
    store = None
    with suppress(VideoError):
        store = embedding.c2pa_store(path)  # to ask for each root without reading all of the file again
    found = _named(found, trust, lambda pem: _judged(path, container.mime, store, pem))
    return _covered(path, found, _active(crjson).get("assertions") or {})


def read_store(store: bytes, anchors: str) -> Credential | None:
    """A manifest without its file: its signature and its own assertions are judged, the file's bytes are not.

    The state is trusted, valid, ended, early or broken; None where it cannot be read at all.
    """
    import c2pa

    if len(store) > MAX_STORE_BYTES:
        return None
    trust = roots.Trust.from_pem(anchors)
    try:
        document, crjson = _documents("application/c2pa", lambda: io.BytesIO(store), trust)
    except c2pa.C2paError:
        return None
    found = _credential(document, crjson, detached=True)
    return _named(found, trust, lambda pem: _judged(None, "application/c2pa", store, pem))


def _judged(path: Path | None, mime: str, store: bytes | None, anchors: str) -> Credential:
    """A manifest judged under some roots: alone where it could be taken out of its file, else in it."""
    if store is not None:
        return _credential(*_documents("application/c2pa", lambda: io.BytesIO(store), anchors), detached=True)
    return _credential(*_documents(mime, lambda: open(path or "", "rb"), anchors))


def crjson(path: Path, anchors: str) -> str | None:
    """The credential as C2PA's crJSON, a derived view for validation reports; None where there is none.

    Raises VideoError for a file or a manifest that cannot be read.
    """
    import c2pa

    container = containers.sniff(path)
    places = embedding.places(path) if container.readable else []
    if places is not None and not places:
        return None
    embedding.check_parts(path)
    try:
        with _reader(container.mime, lambda: open(path, "rb"), anchors) as reader:
            return str(reader.crjson())
    except c2pa.C2paError as error:
        if isinstance(error, c2pa.C2paError.ManifestNotFound):
            return None
        raise VideoError(f"the credential of {path} cannot be read: {_words(error)}") from error


@contextmanager
def _reader(mime: str, opened: Callable[[], Any], anchors: str) -> Iterator[Any]:
    import c2pa

    with _context(anchors) as context, opened() as stream, c2pa.Reader(mime, stream, context=context) as reader:
        yield reader


def _documents(mime: str, opened: Callable[[], Any], anchors: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """(the reader's JSON, its crJSON), which also holds the certificate's dates and the hash assertions."""
    with _reader(mime, opened, anchors) as reader:
        return json.loads(reader.json()), json.loads(reader.crjson())


def _named(found: Credential, trust: roots.Trust, under: Callable[[str], Credential]) -> Credential:
    """The signers, of the file and of its ingredients, under their roots' names here.

    `under` judges the file under some of the roots. A signer is unknown where no single root stands behind it, or none
    that is for its name.
    """
    seen: dict[str, Credential] = {}

    def judged(pem: str) -> Credential:
        if pem not in seen:
            seen[pem] = under(pem)
        return seen[pem]

    def source(index: int, one: IngredientState) -> IngredientState:
        if one.state != "trusted":
            return one
        anchor = trust.behind(lambda pem: judged(pem).sources[index].state == "trusted")
        if anchor is None or not anchor.is_for(one.signer):
            return replace(one, state="valid")
        return replace(one, signer=printable(anchor.name))

    found = replace(found, sources=tuple(source(index, one) for index, one in enumerate(found.sources)))
    if found.state != "trusted":
        return found
    # A certificate that has ended is trusted only together with the root of who stamped the time, which may be another.
    clock = trust.behind(lambda pem: judged(pem).stamp_trusted) if found.stamp_trusted else None
    anchor = clock if clock is not None and judged(clock.pem).state == "trusted" else None
    stamped = "" if clock is None else clock.pem
    anchor = anchor or trust.behind(lambda pem: judged(pem + stamped).state == "trusted")
    if anchor is None:
        return replace(found, state="valid", problems=(("org.sorano.root", "no single trusted root stands behind it"),))
    if not anchor.is_for(found.claimed):
        names = ", ".join(map(repr, anchor.root.only_for))
        said = f"the root {anchor.name!r} is trusted here for {names} only, and its signer says {found.claimed!r}"
        return replace(found, state="valid", problems=(("org.sorano.name", printable(said, 400)),))
    return replace(found, signer=printable(anchor.name), root=anchor.root.fingerprint)


def _context(anchors: str) -> Any:
    import c2pa

    settings: dict[str, Any] = {
        "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False, "verify_trust": True},
        "builder": {"thumbnail": {"enabled": False}},
    }
    if anchors.strip():
        settings["trust"] = {"trust_anchors": str(anchors)}
    return c2pa.Context.from_dict(settings)


def _definition(path: Path, statement: Statement) -> dict[str, Any]:
    from sorano import __version__

    agent = {"name": GENERATOR, "version": __version__}
    bound = []
    if statement.mark_id is not None:
        value = base64.b64encode(statement.mark_id.to_bytes(8, "big")).decode()
        bound.append({"alg": MARK_ALGORITHM, "blocks": [{"scope": {}, "value": value}]})
    if statement.fingerprint is not None:
        value = base64.b64encode(statement.fingerprint).decode()
        bound.append({"alg": FINGERPRINT_ALGORITHM, "blocks": [{"scope": {}, "value": value}]})
    record = dict(statement.record)
    if statement.carrier is not None:
        record["carrier"] = {"id": statement.carrier.id, "commitment": statement.carrier.commitment}
    actions = {"actions": _actions(statement, agent), "allActionsIncluded": True}
    assertions = [("c2pa.actions.v2", actions), *(("c2pa.soft-binding", one) for one in bound)]
    if statement.kind != "captured":
        assertions.append((DISCLOSURE_LABEL, _disclosure(record)))
    assertions.append((RECORD_LABEL, record))
    digest = embedding.digest_left_out(path)
    if digest is not None:
        assertions.append((CONTAINER_LABEL, {"sha256": digest}))
    return {
        "claim_generator_info": [{**agent, "specVersion": SPEC_VERSION}],
        "title": (statement.title or path.name)[:200],
        "assertions": [{"label": label, "data": data, "created": True} for label, data in assertions],
    }


def _actions(statement: Statement, agent: Mapping[str, str]) -> list[dict[str, Any]]:
    """The actions, all of them; the first is c2pa.created, or c2pa.opened where there is a parent (2.4, 18.15.2)."""
    source = SOURCE_TYPES[statement.kind]
    given = list(enumerate(statement.ingredients))
    parents = [f"ingredient{index}" for index, one in given if one.relationship == "parentOf"]
    inputs = [f"ingredient{index}" for index, one in given if one.relationship != "parentOf"]
    parameters = {"parameters": {"ingredientIds": inputs}} if inputs else {}
    if parents:
        actions: list[dict[str, Any]] = [
            {"action": "c2pa.opened", "parameters": {"ingredientIds": parents}},
            {"action": "c2pa.edited", "digitalSourceType": source, "softwareAgent": agent, **parameters},
        ]
    else:
        actions = [{"action": "c2pa.created", "digitalSourceType": source, "softwareAgent": agent, **parameters}]
    if statement.mark_id is not None:
        actions.append({"action": "c2pa.watermarked.bound", "softwareAgent": agent})
    return actions


def _disclosure(record: Mapping[str, Any]) -> dict[str, Any]:
    """C2PA's AI disclosure (2.4, 18.28): the kind of model, its name and digest, and that a person gave the prompt.

    Files that another program made say no more than that a model of some kind did.
    """
    model = record.get("model")
    if not isinstance(model, Mapping):
        return {"modelType": "c2pa.types.model"}
    words: dict[str, Any] = {"modelType": MODEL_TYPE, "contentProfile": {"humanOversightLevel": "prompt_guided"}}
    if isinstance(model.get("name"), str):
        words["modelName"] = model["name"]
    with suppress(KeyError, TypeError, ValueError):
        digest = base64.urlsafe_b64encode(bytes.fromhex(model["sha256"])).decode().rstrip("=")
        words["modelIdentifier"] = f"ni:///sha-256;{digest}"  # RFC 6920: a URI that is a digest
    return words


# What is found.


def _credential(document: Mapping[str, Any], crjson: Mapping[str, Any], *, detached: bool = False) -> Credential:
    """The reader's JSON in our words. The name of the signer is what its certificate says: `_named` finds the root."""
    active = str(document.get("active_manifest"))
    manifests: Mapping[str, Any] = document.get("manifests", {})
    manifest: Mapping[str, Any] = manifests.get(active, {})
    state, problems, tolerated = _state(document, crjson, active, detached=detached)
    info = manifest.get("signature_info", {}) or {}
    claimed = _text(info.get("common_name") or info.get("issuer"))
    generator: Mapping[str, Any] = next(iter(manifest.get("claim_generator_info", []) or []), {})
    named = [str(generator[name]) for name in ("name", "version") if name in generator]
    sources = tuple(_sources(document, manifest))
    return Credential(
        state=state,
        signer=claimed,
        claimed=claimed,
        serial=_text(info.get("cert_serial_number")),
        signed_at=_text(info.get("time")),
        stamp_trusted="timeStamp.trusted" in _codes(document, "success"),
        generator=_text(" ".join(named)),
        says_ai=any(_kind_of(one) in ("made", "edited") for one in manifests.values()),
        ingredients=tuple(one.title for one in sources),
        sources=sources,
        tolerated=tuple((printable(code), printable(words)) for code, words in tolerated),
        problems=tuple((printable(code), printable(words)) for code, words in problems),
        **_assertions(manifest),
    )


def _codes(document: Mapping[str, Any], which: str) -> set[str]:
    """The codes of the active manifest: "success", "informational" or "failure"."""
    own = document.get("validation_results", {}).get("activeManifest", {})
    return {str(one.get("code")) for one in own.get(which, []) or []}


Codes = list[tuple[str, str]]


def _state(
    document: Mapping[str, Any], crjson: Mapping[str, Any], active: str, *, detached: bool
) -> tuple[str, Codes, Codes]:
    """(state, problems, tolerated codes). C2PA's validation_state decides; of a manifest alone, its codes do."""
    results = document.get("validation_results", {})
    own = results.get("activeManifest", {})
    success = {(str(one.get("code")), str(one.get("url"))) for one in own.get("success", [])}
    failures: Codes = [(str(one.get("code")), str(one.get("explanation", ""))) for one in own.get("failure", [])]
    deltas: Codes = []
    for delta in results.get("ingredientDeltas", []) or []:
        inner = delta.get("validationDeltas", {}).get("failure", [])
        deltas += [(str(one.get("code")), str(one.get("explanation", ""))) for one in inner]
    if detached:
        failures = [one for one in failures if one[0] not in BYTES_CHANGED]
    tolerated = [one for one in failures if one[0].startswith(TOLERATED)]
    serious = [one for one in failures if one not in tolerated]
    codes = {code for code, _ in serious}
    signed = any(code == "claimSignature.validated" for code, _ in success)
    trusted = any(
        code == "signingCredential.trusted" and url.endswith(f"{active}/c2pa.signature") for code, url in success
    )
    whole = codes <= UNTRUSTED if detached else document.get("validation_state") in ("Valid", "Trusted")
    whole = whole and not codes & BYTES_CHANGED
    if signed and whole:
        known = [one for one in serious if one[0] in UNTRUSTED]
        unknown = [one for one in serious if one[0] not in UNTRUSTED]
        return "trusted" if trusted else "valid", known, tolerated + unknown + deltas
    if signed and codes and codes <= UNTRUSTED | ENDED:
        return "early" if _begins_later(crjson) else "ended", serious, tolerated
    if signed and codes and codes <= UNTRUSTED | ENDED | BYTES_CHANGED:
        return "changed", serious, tolerated
    return "broken", serious + deltas, tolerated


def _active(crjson: Mapping[str, Any]) -> Mapping[str, Any]:
    """The active manifest of a crJSON document, which it lists first."""
    found = crjson.get("manifests") or [{}]
    return found[0] if isinstance(found[0], dict) else {}


def _begins_later(crjson: Mapping[str, Any]) -> bool:
    """Whether the signer's certificate is not valid yet."""
    try:
        begins = _active(crjson)["signature"]["certificateInfo"]["validity"]["notBefore"]
        return datetime.fromisoformat(begins) > datetime.now(UTC)
    except (KeyError, TypeError, ValueError):
        return False


def _sources(document: Mapping[str, Any], manifest: Mapping[str, Any]) -> Iterator[IngredientState]:
    """The ingredients, each with its state: as it was when it was used, and whether its signer is trusted now."""
    now: dict[str, set[str]] = {"success": set(), "failure": set()}  # signatures judged otherwise than when it was used
    for delta in document.get("validation_results", {}).get("ingredientDeltas", []) or []:
        for which, code in (("success", "signingCredential.trusted"), ("failure", "signingCredential.untrusted")):
            for entry in delta.get("validationDeltas", {}).get(which, []) or []:
                if entry.get("code") == code:
                    now[which].add(str(entry.get("url")))
    for one in (manifest.get("ingredients", []) or [])[:MOST_INGREDIENTS]:
        title, relationship = printable(str(one.get("title", "untitled"))), printable(str(one.get("relationship")))
        label = one.get("active_manifest")
        inner = document.get("manifests", {}).get(label)
        if label is None or not isinstance(inner, dict):
            yield IngredientState(title, relationship)
            continue
        seen = (one.get("validation_results") or {}).get("activeManifest") or {}
        codes = {str(entry.get("code")) for entry in seen.get("failure", []) if entry}
        success = {(str(entry.get("code")), str(entry.get("url"))) for entry in seen.get("success", [])}
        own = f"{label}/c2pa.signature"
        known = any(url.endswith(own) for url in now["success"]) or (
            # whoever used it trusted it, and so does this machine: nothing here says otherwise
            any(code == "signingCredential.trusted" and url.endswith(own) for code, url in success)
            and not any(url.endswith(own) for url in now["failure"])
        )
        codes = {code for code in codes if not code.startswith(TOLERATED)} - UNTRUSTED - ENDED
        state = "valid" if not codes else "changed" if codes <= BYTES_CHANGED else "broken"
        info = inner.get("signature_info") or {}
        signer = _text(info.get("common_name") or info.get("issuer"))
        yield IngredientState(
            title, relationship, "trusted" if state == "valid" and known else state, signer, _kind_of(inner)
        )


def _kind_of(manifest: Mapping[str, Any]) -> str | None:
    """made, edited or captured, as a manifest's actions say; the word against camera counts before that for it."""
    found = set()
    for assertion in manifest.get("assertions", []) or []:
        data = assertion.get("data")
        if not str(assertion.get("label", "")).startswith("c2pa.actions") or not isinstance(data, dict):
            continue
        actions = data.get("actions")
        for one in actions if isinstance(actions, list) else []:
            if isinstance(one, dict):
                found.add(str(one.get("digitalSourceType")).rstrip("/").rpartition("/")[2])
    for kind, source in SOURCE_TYPES.items():
        if source.rpartition("/")[2] in found:
            return kind
    return "edited" if found & AI_SOURCE_TYPES else None


def _assertions(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What we look for among a manifest's assertions, tolerant of anything else."""
    found: dict[str, Any] = {"kind": _kind_of(manifest)}
    for assertion in manifest.get("assertions", []) or []:
        label, data = str(assertion.get("label", "")), assertion.get("data")
        if not isinstance(data, dict):
            continue
        if label == "c2pa.soft-binding":
            blocks = data.get("blocks") or [{}]
            with suppress(ValueError, TypeError, AttributeError, KeyError):
                value = base64.b64decode(blocks[0].get("value", ""), validate=True)
                if data.get("alg") == MARK_ALGORITHM and len(value) == 8:
                    found["mark_id"] = int.from_bytes(value, "big")
                elif data.get("alg") == FINGERPRINT_ALGORITHM:
                    found["fingerprint"] = value
        elif label in (RECORD_LABEL, CONTAINER_LABEL, DISCLOSURE_LABEL):
            record = data if label == RECORD_LABEL else {label: data}
            found["record"] = {**found.get("record", {}), **record}
            carrier = data.get("carrier") if label == RECORD_LABEL else None
            if isinstance(carrier, dict):
                found["carrier_id"] = _text(carrier.get("id"))
                found["commitment"] = _text(carrier.get("commitment"))
    return found


def _covered(path: Path, found: Credential, assertions: Mapping[str, Any]) -> Credential:
    """Our own files leave no byte uncovered; of others' files, what their hash leaves out is listed."""
    if found.state not in WHOLE:
        return found
    if (found.generator or "").split(" ")[0] != GENERATOR:
        try:
            left_out = embedding.left_out(path, assertions)
        except VideoError as error:  # C2PA's reader has no complaint: then neither have we
            left_out = (f"what is not known here ({error.message})",)
        return replace(found, left_out=tuple(map(printable, left_out)))
    wanted = found.record.get(CONTAINER_LABEL)
    digest = wanted.get("sha256") if isinstance(wanted, Mapping) else None
    try:
        problem = embedding.uncovered(path, assertions, digest)
    except VideoError as error:
        problem = error.message
    if problem is None:
        return found
    return replace(found, state="changed", problems=(*found.problems, ("org.sorano.strict", printable(problem))))


def _text(value: Any) -> str | None:
    return printable(str(value)) if value not in (None, "") else None


def _words(error: Exception) -> str:
    text = str(error).strip()
    return printable(text.splitlines()[0], 300) if text else type(error).__name__
