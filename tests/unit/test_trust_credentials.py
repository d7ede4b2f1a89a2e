"""Credentials: signed and read back, trusted only under a known root, and no byte changes unseen."""

import http.server
import importlib.util
import io
import json
import os
import shutil
import struct
import subprocess
import threading
import time
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from sorano import cli, video
from sorano.errors import RequestError, TrustError, VideoError
from sorano.trust import verify
from sorano.trust.judge import Observations, judge
from sorano.trust.provenance import containers, credentials, embedding, keys, label, roots, store

FULL = os.environ.get("SORANO_FULL") == "1"
STATEMENT = credentials.Statement(
    "made",
    title="a red ball",
    mark_id=0xA1B2C3D4E5,
    fingerprint=bytes(range(64)),
    record={"request": {"sha256": "00" * 32}, "model": {"name": "world"}},
)


def clip(path, seed=0):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (8, 8, 3), np.uint8)
    frame = np.asarray(Image.fromarray(coarse).resize((64, 64)))
    return video.write_video(path, np.stack([np.roll(frame, i, 1) for i in range(9)]), 12, metadata={"seed": seed})


def made(path, statement=STATEMENT, signer=None):
    clip(path) if path.suffix == ".mp4" else Image.fromarray(
        np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    ).save(path)
    label.write(path, label.Label(produce_id="1"))
    credentials.sign(path, statement, signer or keys.identity())
    return path


@pytest.mark.parametrize("name", ["a.mp4", "a.png", "a.jpg", "a.webp"])
def test_what_is_signed_is_trusted_under_its_root_and_valid_without(tmp_path, name):
    path = made(tmp_path / name)
    found = credentials.read(path, roots.anchors())
    assert (found.state, found.kind, found.problems) == ("trusted", "made", ())
    assert found.signer == keys.identity().name
    assert found.mark_id == 0xA1B2C3D4E5 and found.fingerprint == bytes(range(64))
    assert found.record["request"] == {"sha256": "00" * 32}
    stranger = credentials.read(path, "")
    assert stranger.state == "valid" and stranger.problems[0][0] == "signingCredential.untrusted"
    assert label.read(path)[0].label is not None  # written before, still there
    if name == "a.mp4":
        assert video.read_metadata(path) == {"seed": 0}
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_another_root_makes_no_trust(tmp_path, monkeypatch):
    path = made(tmp_path / "a.mp4")
    monkeypatch.setenv("SORANO_CONFIG", str(tmp_path / "other"))
    keys.init("Somebody else")
    assert credentials.read(path, roots.anchors()).state == "valid"


def test_a_file_without_a_credential_has_none(tmp_path):
    assert credentials.read(clip(tmp_path / "a.mp4"), "") is None
    (tmp_path / "a.webm").write_bytes(b"\x1a\x45\xdf\xa3")
    assert credentials.read(tmp_path / "a.webm", "") is None
    with pytest.raises(VideoError):
        credentials.read(tmp_path / "missing.mp4", "")


def test_an_edit_names_its_source_and_a_recording_its_kind(tmp_path):
    source = made(tmp_path / "source.mp4")
    edit = clip(tmp_path / "edit.mp4", seed=1)
    parent = credentials.Ingredient(source, "parentOf", "source.mp4")
    credentials.sign(edit, credentials.Statement("edited", ingredients=[parent]), keys.identity())
    found = credentials.read(edit, roots.anchors())
    assert (found.state, found.kind, found.ingredients) == ("trusted", "edited", ("source.mp4",))
    recording = clip(tmp_path / "recording.mp4", seed=2)
    carrier = keys.WatermarkKey("0123456789abcdef", bytes(32), "now")
    credentials.sign(recording, credentials.Statement("captured", carrier=carrier), keys.identity())
    found = credentials.read(recording, roots.anchors())
    assert (found.kind, found.carrier_id, found.commitment) == ("captured", carrier.id, carrier.commitment)
    picture = Image.new("RGB", (32, 32), (200, 30, 40))
    picture.save(tmp_path / "first.png")
    begun = clip(tmp_path / "begun.mp4", seed=3)
    first = credentials.Ingredient(tmp_path / "first.png", "inputTo", "first.png")
    credentials.sign(begun, credentials.Statement("made", ingredients=[first]), keys.identity())
    assert credentials.read(begun, roots.anchors()).ingredients == ("first.png",)


def test_the_manifest_alone_says_who_and_what(tmp_path):
    path = clip(tmp_path / "a.mp4")
    store = credentials.sign(path, STATEMENT, keys.identity())
    found = credentials.read_store(store, roots.anchors())
    assert (found.state, found.mark_id, found.kind) == ("trusted", STATEMENT.mark_id, "made")
    assert credentials.read_store(store, "").state == "valid"
    assert embedding.c2pa_store(path) == store
    for content in (b"", b"x" * 100, store[:500], store[:-70]):
        assert credentials.read_store(content, roots.anchors()) is None
    rng = np.random.default_rng(0)
    used = len(store.rstrip(b"\0"))
    text = store.index(b"digitalSourceType")
    for at in [text + 30, *rng.integers(600, used, 60)]:
        changed = bytearray(store)
        changed[at] ^= 1 << int(rng.integers(8))
        found = credentials.read_store(bytes(changed), roots.anchors())
        if found is not None and found.state == "trusted":  # only padding is not signed
            assert (found.mark_id, found.kind, found.fingerprint) == (
                STATEMENT.mark_id,
                "made",
                STATEMENT.fingerprint,
            )


def test_a_manifest_of_another_file_does_not_fit(tmp_path):
    one, other = made(tmp_path / "one.mp4"), clip(tmp_path / "other.mp4", seed=5)
    data = one.read_bytes()
    box = next(box for box in containers.boxes(io.BytesIO(data)) if box.kind == b"uuid")
    theirs = other.read_bytes()
    swapped = theirs[:32] + data[box.start : box.end] + theirs[32:]
    other.write_bytes(swapped)
    assert credentials.read(other, roots.anchors()).state in ("changed", "broken")


def test_every_byte_of_the_manifest_and_what_c2pa_leaves_out_is_covered(tmp_path):
    """c2pa-rs alone calls 10,000 of these flips trusted: ftyp, padding, labels, high bytes of sizes."""
    path = made(tmp_path / "a.mp4")
    data = path.read_bytes()
    places = [box for box in containers.boxes(io.BytesIO(data)) if box.kind in (b"ftyp", b"uuid", b"free")]
    every = [at for box in places for at in range(box.start, box.end)]
    rng = np.random.default_rng(0)
    chosen = every if FULL else [*every[:2000:37], *rng.choice(every, 150)]
    for at in chosen:
        changed = bytearray(data)
        changed[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        try:
            found = credentials.read(path, roots.anchors())
        except VideoError:
            continue
        assert found is None or found.state in ("changed", "broken"), at
    path.write_bytes(data + b"\0\0\0\x10freehidden!!")
    assert credentials.read(path, roots.anchors()).state == "changed"


def c2pa_box(purpose, content=b""):
    body = embedding.C2PA_UUID + bytes(4) + purpose + b"\0" + content
    return struct.pack(">I4s", 8 + len(body), b"uuid") + body


@pytest.mark.parametrize("purpose", [b"hello", b"merkle", b"manifest", b""])
@pytest.mark.parametrize("place", ["end", "front"])
def test_a_second_box_of_c2pa_is_no_part_of_a_file_of_ours(tmp_path, purpose, place):
    """C2PA's hash passes over all of them, whatever they hold and however large they are."""
    path = made(tmp_path / "a.mp4")
    data, box = path.read_bytes(), c2pa_box(purpose, bytes(range(256)) * 4000)
    ftyp = struct.unpack(">I", data[:4])[0]
    path.write_bytes(data + box if place == "end" else data[:ftyp] + box + data[ftyp:])
    found = credentials.read(path, roots.anchors())
    assert found.state in ("changed", "broken")
    if found.problems[-1][0] == "org.sorano.strict":  # what C2PA's own reader has no complaint about
        assert "places for a credential" in found.problems[-1][1]


def test_what_the_hash_of_others_leaves_out_is_listed(tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(credentials, "GENERATOR", "another program")
        path = made(tmp_path / "a.mp4")
    assert credentials.read(path, roots.anchors()).left_out[0].startswith("a ftyp box, ")
    data = path.read_bytes()
    path.write_bytes(data + c2pa_box(b"hello", bytes(1000)) + b"\0\0\0\x10freehidden!!")
    found = credentials.read(path, roots.anchors())
    assert found.state == "trusted" and "a further C2PA box of purpose 'hello', 1,026 bytes" in found.left_out
    assert any(one.endswith("a free box, 8 bytes") for one in found.left_out)
    lines = "\n".join(verify.verify(path).lines())
    assert "purpose 'hello'" in lines and "but for what its hash leaves out" in lines


# Who signed.


def studio(folder, monkeypatch, name):
    """A signer elsewhere: (their identity, a PEM file of their root)."""
    monkeypatch.setenv("SORANO_CONFIG", str(folder / f"keys of {name}"))
    who = keys.init(name)
    (folder / f"{name}.pem").write_text(keys.export())
    return who, folder / f"{name}.pem"


def impostor(folder, called):
    """A root called Mallory, and a leaf of it that says it is somebody else."""
    root_key, root = keys._make_root("Mallory")
    key, leaf = keys._make_leaf(called, root_key, root)
    (folder / "mallory.pem").write_text(keys.to_pem(root))
    return keys.Identity(keys.to_pem(leaf) + keys.to_pem(root), keys.signer_of(key)), folder / "mallory.pem"


def test_a_signer_is_called_by_its_roots_name_here(tmp_path, monkeypatch):
    studio_a, studio_root = studio(tmp_path, monkeypatch, "Studio A")
    mallory, mallory_root = impostor(tmp_path, "Studio A")
    genuine, forged = made(tmp_path / "genuine.mp4", signer=studio_a), made(tmp_path / "forged.mp4", signer=mallory)
    monkeypatch.setenv("SORANO_CONFIG", str(tmp_path / "mine"))
    keys.init("Me")
    roots.add(studio_root, "The studio")
    roots.add(mallory_root)
    found = credentials.read(genuine, roots.anchors())
    assert (found.state, found.signer, found.claimed) == ("trusted", "The studio", "Studio A")
    found = credentials.read(forged, roots.anchors())
    assert (found.state, found.signer, found.claimed) == ("trusted", "Mallory", "Studio A")
    report = verify.verify(forged)
    assert report.signer == "Mallory" and "as Mallory signed it" in report.summary
    assert "its certificate says 'Studio A'" in "\n".join(report.lines())
    store = embedding.c2pa_store(forged)
    assert credentials.read_store(store, roots.anchors()).signer == "Mallory"  # a manifest alone says the same
    assert credentials.read(forged, "").signer == "Studio A"  # nobody here knows better


def test_a_root_may_be_trusted_for_some_names_only(tmp_path, monkeypatch):
    mallory, root = impostor(tmp_path, "Studio A")
    forged = made(tmp_path / "forged.mp4", signer=mallory)
    monkeypatch.setenv("SORANO_CONFIG", str(tmp_path / "mine"))
    keys.init("Me")
    roots.add(root, only_for=["Mallory", "Mallory's brother"])
    found = credentials.read(forged, roots.anchors())
    assert found.state == "valid" and found.problems[0][0] == "org.sorano.name"
    assert "trusted here for 'Mallory'" in "\n".join(verify.verify(forged).lines())
    roots.add(root, only_for=["studio  A"])  # added anew: names are compared without case and spaces
    assert credentials.read(forged, roots.anchors()).state == "trusted"


def test_two_roots_never_share_a_name_here(tmp_path, monkeypatch):
    _, first = studio(tmp_path, monkeypatch, "Studio A")
    root_key, root = keys._make_root("ＳＴＵＤＩＯ a")
    (tmp_path / "second.pem").write_text(keys.to_pem(root))
    monkeypatch.setenv("SORANO_CONFIG", str(tmp_path / "mine"))
    keys.init("Me")
    roots.add(first)
    with pytest.raises(RequestError, match="another root is called"):
        roots.add(tmp_path / "second.pem")
    (added,) = roots.add(tmp_path / "second.pem", "The other studio")
    assert added.name == "The other studio"
    roots.remove("The other studio")
    names = [one.name for one in roots.anchors(tmp_path / "second.pem").anchors]  # for one question
    assert names[1] == "Studio A" and len(set(names)) == 3 or all("(" in name for name in names[1:])


def test_the_right_root_is_found_among_many(tmp_path, monkeypatch):
    who, root = studio(tmp_path, monkeypatch, "Studio A")
    path = made(tmp_path / "a.png", signer=who)
    monkeypatch.setenv("SORANO_CONFIG", str(tmp_path / "mine"))
    keys.init("Me")
    for index in range(9):
        (tmp_path / f"{index}.pem").write_text(keys.to_pem(keys._make_root(f"Other {index}")[1]))
        roots.add(tmp_path / f"{index}.pem")
        if index == 4:
            roots.add(root)
    assert credentials.read(path, roots.anchors()).signer == "Studio A"


# Ingredients.


def test_a_trusted_signer_stays_trusted_when_an_ingredient_is_unknown_here(tmp_path, monkeypatch):
    stranger, _ = impostor(tmp_path, "A stranger")
    source = made(tmp_path / "source.jpg", signer=stranger)
    damaged = bytearray(source.read_bytes())
    damaged[-30] ^= 1
    (tmp_path / "damaged.jpg").write_bytes(damaged)
    Image.new("RGB", (32, 32)).save(tmp_path / "plain.gif")
    given = [
        credentials.Ingredient(source, "parentOf", "source.jpg"),
        credentials.Ingredient(tmp_path / "damaged.jpg", "inputTo", "damaged.jpg"),
        credentials.Ingredient(tmp_path / "plain.gif", "inputTo", "plain.gif"),
        credentials.Ingredient(made(tmp_path / "own.png"), "inputTo", "own.png"),
    ]
    edit = clip(tmp_path / "edit.mp4", seed=1)
    credentials.sign(edit, credentials.Statement("edited", ingredients=given), keys.identity())
    found = credentials.read(edit, roots.anchors())
    assert (found.state, found.says_ai) == ("trusted", True)
    assert {one.title: (one.state, one.kind) for one in found.sources} == {
        "source.jpg": ("valid", "made"),
        "damaged.jpg": ("changed", "made"),
        "plain.gif": ("none", None),
        "own.png": ("trusted", "made"),
    }
    report = verify.verify(edit)
    assert report.verdict is verify.Verdict.VERIFIED and "who is unknown here" in "\n".join(report.lines())
    # and the other way round: a file by somebody unknown with an ingredient of ours is not tampered with
    theirs = clip(tmp_path / "theirs.mp4", seed=2)
    own = credentials.Ingredient(tmp_path / "own.png", "parentOf", "own.png")
    credentials.sign(theirs, credentials.Statement("edited", ingredients=[own]), stranger)
    found = credentials.read(theirs, roots.anchors())
    assert found.state == "valid" and found.sources[0].state == "trusted"


def test_an_ingredients_signer_is_called_by_its_root_and_trusted_by_this_machine_alone(tmp_path, monkeypatch):
    """A signer can record that its own machine trusts an ingredient, and any leaf can be called Studio A."""
    forger, root = impostor(tmp_path, "Studio A")
    source = made(tmp_path / "source.jpg", signer=forger)
    edit = clip(tmp_path / "edit.mp4", seed=1)
    context = credentials._context
    with monkeypatch.context() as patched:
        patched.setattr(credentials, "_context", lambda _: context(root.read_text()))
        part = credentials.Ingredient(source, "parentOf", "source.jpg")
        credentials.sign(edit, credentials.Statement("edited", ingredients=[part]), keys.identity())
    found = credentials.read(edit, roots.anchors())
    assert (found.state, found.sources[0].state) == ("trusted", "valid")
    found = credentials.read(edit, roots.anchors(root))
    assert (found.state, found.sources[0].state, found.sources[0].signer) == ("trusted", "trusted", "Mallory")
    store = embedding.c2pa_store(edit)
    assert credentials.read_store(store, roots.anchors(root)).sources == found.sources


def test_an_ingredient_whose_manifest_cannot_be_read_is_named_all_the_same(tmp_path):
    source = made(tmp_path / "source.png")
    data = bytearray(source.read_bytes())
    data[data.index(b"jumb") + 30] ^= 0xFF
    (tmp_path / "broken.png").write_bytes(data)
    (tmp_path / "a.webm").write_bytes(b"\x1a\x45\xdf\xa3" + bytes(100))
    bomb = (tmp_path / "source.mp4", b"\0\0\0\x08free" * 30_000)
    bomb[0].write_bytes(made(tmp_path / "small.mp4").read_bytes() + bomb[1])
    given = [
        credentials.Ingredient(tmp_path / name, "inputTo", name) for name in ("broken.png", "a.webm", "source.mp4")
    ]
    path = clip(tmp_path / "a.mp4")
    credentials.sign(path, credentials.Statement("made", ingredients=given), keys.identity())
    found = credentials.read(path, roots.anchors())
    assert found.state == "trusted" and found.ingredients == ("broken.png", "a.webm", "source.mp4")


def test_a_second_signature_does_not_take_the_first_ones_place(tmp_path):
    path = made(tmp_path / "a.mp4")
    with pytest.raises(TrustError, match="holds a credential already"):
        credentials.sign(path, STATEMENT, keys.identity())


# Structure, not bytes.


def riff(data):
    return data[:4] + struct.pack("<I", len(data) - 8) + data[8:]


def test_a_mention_of_a_manifest_is_none(tmp_path):
    said = b"a talk about jumdc2pa and c2pa.claim and urn:c2pa"
    plain = clip(tmp_path / "plain.mp4").read_bytes()
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    xmp += b'<rdf:Description dcterms:provenance="self#jumbf=/c2pa/urn:uuid:0/c2pa.claim"/></rdf:RDF></x:xmpmeta>'
    Image.new("RGB", (32, 32)).save(tmp_path / "left.jpg", xmp=xmp, comment=said)
    Image.new("RGB", (32, 32)).save(tmp_path / "left.webp", xmp=xmp)
    Image.new("RGB", (32, 32)).save(tmp_path / "plain.png")
    chunk = b"tEXtComment\0" + said
    whole = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    data = (tmp_path / "plain.png").read_bytes()
    (tmp_path / "comment.png").write_bytes(data[:33] + whole + data[33:])
    (tmp_path / "free.mp4").write_bytes(plain + struct.pack(">I4s", 8 + len(said), b"free") + said)
    (tmp_path / "uuid.mp4").write_bytes(plain + struct.pack(">I4s", 24 + len(said), b"uuid") + bytes(16) + said)
    (tmp_path / "note.gif").write_bytes(b"GIF89a\1\0\1\0\0\0\0\x21\xfe" + bytes([len(said)]) + said + b"\0;")
    body = b"JP\2\x11\0\0\0\1" + struct.pack(">I4sI4s", 40, b"jumb", 32, b"jumd") + b"json" + bytes(20)
    segment = b"\xff\xeb" + struct.pack(">H", 2 + len(body)) + body  # JUMBF of another kind: JPEG 360, JPEG Trust
    data = (tmp_path / "left.jpg").read_bytes()
    (tmp_path / "jumbf.jpg").write_bytes(data[:2] + segment + data[2:])
    for file in sorted(tmp_path.iterdir()):
        assert credentials.read(file, "") is None, file.name
        assert not embedding.has_c2pa(file)
    (tmp_path / "hello.mp4").write_bytes(plain + c2pa_box(b"hello"))
    assert credentials.read(tmp_path / "hello.mp4", "") is None  # a place, and no manifest in it


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """A file of every kind that C2PA reads, signed by another program: a function from its ending to its path."""
    import av
    import c2pa

    folder = tmp_path_factory.mktemp("others")
    root_key, root = keys._make_root("Press")
    key, leaf = keys._make_leaf("Press", root_key, root)
    sign, chain = keys.signer_of(key), keys.to_pem(leaf) + keys.to_pem(root)
    (folder / "press.pem").write_text(keys.to_pem(root))

    def sound(path, codec, form=None):
        with av.open(str(path), "w", format=form) as out:
            stream = out.add_stream(codec, rate=44100)
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 44100), np.int16), format="s16", layout="mono")
            frame.rate = 44100
            for piece in av.AudioResampler(stream.codec_context.format.name, "mono", 44100).resample(frame):
                out.mux(stream.encode(piece))
            out.mux(stream.encode())

    def plain(path, ending):
        picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
        if ending in ("png", "jpg", "webp", "tif", "avif", "pdf"):
            picture.save(path)
        elif ending == "gif":
            picture.convert("P").save(path)
        elif ending == "svg":
            path.write_text(
                '<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><g/></svg>'
            )
        elif ending in ("mp4", "mov", "avi"):
            with av.open(str(path), "w") as out:
                stream = out.add_stream("mjpeg" if ending == "avi" else "libx264", rate=12)
                stream.width, stream.height = 64, 64
                stream.pix_fmt = "yuvj420p" if ending == "avi" else "yuv420p"
                for _ in range(9):
                    frame = av.VideoFrame.from_ndarray(np.asarray(picture), format="rgb24")
                    out.mux(stream.encode(frame.reformat(format=stream.pix_fmt)))
                out.mux(stream.encode())
        else:
            sound(
                path,
                *{"wav": ("pcm_s16le",), "mp3": ("libmp3lame",), "flac": ("flac",), "m4a": ("aac", "ipod")}[ending],
            )

    def signed(ending):
        path = folder / f"a.{ending}"
        if path.exists():
            return path
        plain(folder / f"plain.{ending}", ending)
        action = {"action": "c2pa.created", "digitalSourceType": credentials.SOURCE_TYPES["captured"]}
        words = {"claim_generator_info": [{"name": "another program", "version": "1"}], "title": "a picture",
                 "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [action]}}]}  # fmt: skip
        with (
            credentials._context("") as context,
            c2pa.Signer.from_callback(sign, c2pa.C2paSigningAlg.ES256, chain, None) as native,
            c2pa.Builder(json.dumps(words), context) as builder,
            open(folder / f"plain.{ending}", "rb") as source,
            open(path, "w+b") as target,
        ):
            builder.sign(native, containers.sniff(folder / f"plain.{ending}").mime, source, target)
        return path

    return signed


KINDS = ["mp4", "mov", "avi", "png", "jpg", "webp", "gif", "tif", "avif", "wav", "mp3", "flac", "m4a", "svg", "pdf"]


@pytest.mark.parametrize("ending", KINDS)
def test_every_format_that_c2pa_reads_is_read(others, ending):
    path = others(ending)
    plain, anchors = path.with_name(f"plain.{ending}"), roots.anchors(path.with_name("press.pem"))
    assert credentials.read(plain, anchors) is None
    found = credentials.read(path, anchors)
    assert (found.state, found.signer, found.kind, found.problems) == ("trusted", "Press", "captured", ())
    assert credentials.read(path, "").state == "valid"
    if ending not in ("svg", "pdf"):
        assert len(embedding.places(path)) == 1 and embedding.places(plain) == []
    data = bytearray(path.read_bytes())
    last = data.rindex(b"\xff\xd9") - 1 if ending == "jpg" else len(data) - 3
    place = (embedding.places(path) or [embedding.Place(len(data), len(data))])[0]
    at = last if not place.start <= last < place.end else place.start - 2
    data[at] ^= 1
    path.with_name(f"changed.{ending}").write_bytes(data)
    try:
        changed = credentials.read(path.with_name(f"changed.{ending}"), anchors)
    except VideoError:
        return  # its structure no longer holds
    assert changed is None or changed.state in ("changed", "broken")


@pytest.mark.parametrize("ending", ["wav", "mp3", "flac", "m4a", "svg", "pdf"])
def test_files_without_pictures_are_verified_by_their_credential(others, ending):
    path = others(ending)
    report = verify.verify(path, trust=path.with_name("press.pem"))
    assert report.verdict is verify.Verdict.VERIFIED and any("no pictures in it" in note for note in report.notes)
    assert verify.verify(path.with_name(f"plain.{ending}")).verdict is verify.Verdict.UNVERIFIED


def test_codes_that_are_not_known_are_shown_and_not_punished():
    """`validation_state` decides: what C2PA calls Valid is whole, whatever else is said of single assertions."""
    url = "self#jumbf=/c2pa/urn:c2pa:1/c2pa.signature"

    def judged(state, *failures, trusted=True, detached=False):
        success = [{"code": "claimSignature.validated", "url": url}]
        success += [{"code": "signingCredential.trusted", "url": url}] if trusted else []
        own = {"success": success, "failure": [{"code": code, "explanation": "x"} for code in failures]}
        document = {"active_manifest": "urn:c2pa:1", "validation_state": state,
                    "manifests": {"urn:c2pa:1": {}}, "validation_results": {"activeManifest": own}}  # fmt: skip
        return credentials._credential(document, {}, detached=detached)

    assert judged("Valid", "cawg.x509.credential.untrusted").state == "trusted"
    found = judged("Valid", "org.example.unheard.of")
    assert found.state == "trusted" and found.tolerated == (("org.example.unheard.of", "x"),)
    assert judged("Valid", "cawg.ica.credential_issuer.untrusted", trusted=False).state == "valid"
    assert judged("Invalid", "org.example.unheard.of").state == "broken"
    assert judged("Valid", "assertion.dataHash.mismatch").state == "changed"  # whatever is said of the whole
    assert judged("Invalid", "assertion.dataHash.mismatch", "cawg.x509.credential.untrusted").state == "changed"
    assert judged("Invalid", "signingCredential.expired").state == "ended"
    assert judged("Invalid", "claim.missing").state == judged("Invalid").state == "broken"
    assert judged("Invalid", "assertion.dataHash.mismatch", "cawg.x", detached=True).state == "trusted"
    assert judged("Invalid", "org.example.unheard.of", detached=True).state == "broken"
    assert judged("Valid", trusted=False).state == "valid"
    assert not judged("Valid").stamp_trusted
    look = Observations("a.mp4", replace(judged("Valid"), signed_at="2026-11-28", root="0" * 16))
    assert "time stamped 2026-11-28 by an authority that is unknown here" in "\n".join(judge(look).lines())


@pytest.mark.parametrize(
    ("begins", "state"), [("2100-01-01T00:00:00+00:00", "early"), ("2020-01-01T00:00:00Z", "ended")]
)
def test_not_yet_valid_is_not_ended(begins, state):
    """C2PA has one code for both, and its signer refuses to sign with either: the certificate's dates tell."""
    url = "self#jumbf=/c2pa/urn:c2pa:1/c2pa.signature"
    own = {"success": [{"code": "claimSignature.validated", "url": url}],
           "failure": [{"code": "signingCredential.expired"}, {"code": "signingCredential.untrusted"}]}  # fmt: skip
    document = {"active_manifest": "urn:c2pa:1", "validation_state": "Invalid",
                "manifests": {"urn:c2pa:1": {"signature_info": {"common_name": "Studio A"}}},
                "validation_results": {"activeManifest": own}}  # fmt: skip
    crjson = {"manifests": [{"signature": {"certificateInfo": {"validity": {"notBefore": begins}}}}]}
    found = credentials._credential(document, crjson)
    assert found.state == state and credentials._credential(document, {}).state == "ended"
    report = judge(Observations("a.mp4", found))
    words = {"early": "is not valid yet", "ended": "has ended"}
    assert report.verdict is verify.Verdict.UNVERIFIED and words[state] in report.summary
    assert words[state] in "\n".join(report.lines())


# Bounds.


def test_parts_are_counted_before_any_other_reader_meets_the_file(tmp_path, monkeypatch):
    """80,000 empty boxes took C2PA's reader half a minute, a million chunks took it twenty seconds."""
    path = made(tmp_path / "a.mp4")
    data = path.read_bytes()
    picture = made(tmp_path / "a.png").read_bytes()
    bombs = {
        "top.mp4": data + b"\0\0\0\x08free" * 200_000,
        "inner.mp4": data + struct.pack(">I4s", 8 + 8 * 90_000, b"moov") + b"\0\0\0\x08free" * 90_000,
        "deep.mp4": data + b"".join(struct.pack(">I4s", 8 * (400 - at), b"moov") for at in range(400)),
        "chunks.png": picture[:33] + b"\0\0\0\0teSt\0\0\0\0" * 150_000 + picture[33:],
        "few.png": picture[:33] + b"\0\0\0\0teSt\0\0\0\0" * 60_000 + picture[33:],
    }
    monkeypatch.setattr(credentials, "_documents", lambda *_: pytest.fail("C2PA's reader was asked"))
    for name, content in bombs.items():
        (tmp_path / name).write_bytes(content)
        began = time.process_time()
        with pytest.raises(VideoError, match=r"more than [\d,]+ (boxes|chunks)|deep in each other"):
            credentials.read(tmp_path / name, "")
        assert time.process_time() - began < 3, name


@pytest.mark.parametrize("name", ["a.mp4", "a.png", "a.jpg", "a.webp"])
def test_something_behind_the_end_of_a_file_is_no_credential_and_hides_none(tmp_path, name):
    """Cameras and chats leave zeros and garbage behind: that is no error where nothing is signed."""
    signed = made(tmp_path / name)
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(tmp_path / "plain.png")
    plain = clip(tmp_path / "plain.mp4") if name == "a.mp4" else tmp_path / f"plain.{name[2:]}"
    if name != "a.mp4":
        Image.open(tmp_path / "plain.png").save(plain)
    for tail in (bytes(3), bytes(64), b"\0\0\1\0garbage that is no box", b"x" * 5):
        (tmp_path / f"tail {name}").write_bytes(plain.read_bytes() + tail)
        assert credentials.read(tmp_path / f"tail {name}", "") is None
        (tmp_path / f"tail {name}").write_bytes(signed.read_bytes() + tail)
        assert credentials.read(tmp_path / f"tail {name}", roots.anchors()).state in ("changed", "broken")
    (tmp_path / f"cut {name}").write_bytes(signed.read_bytes()[:-20])
    found = credentials.read(tmp_path / f"cut {name}", roots.anchors())
    assert found.state in ("changed", "broken") if name != "a.webp" else found is None  # its credential lay at the end


# What others ask for.


def test_the_manifest_follows_the_conformance_programme(tmp_path):
    path = clip(tmp_path / "a.mp4")
    record = {"model": {"name": "world", "sha256": "ab" * 32, "files": {"a.safetensors": "cd" * 32}}}
    credentials.sign(path, replace(STATEMENT, record=record), keys.identity())
    with credentials._reader("video/mp4", lambda: open(path, "rb"), "") as reader:
        manifest = reader.get_active_manifest()
    assert manifest["claim_generator_info"][0]["specVersion"] == "2.4.0"
    data = {one["label"]: one["data"] for one in manifest["assertions"]}
    assert data["c2pa.actions.v2"]["allActionsIncluded"] is True
    assert data["c2pa.ai-disclosure"] == {
        "modelType": "c2pa.types.model.pytorch",
        "modelName": "world",
        "modelIdentifier": "ni:///sha-256;" + "q6ur" * 10 + "q6s",
        "contentProfile": {"humanOversightLevel": "prompt_guided"},
    }
    for action in data["c2pa.actions.v2"]["actions"]:
        assert "digitalSourceType" in action or action["action"] in ("c2pa.opened", "c2pa.watermarked.bound")
    assert credentials.read(path, roots.anchors()).record["model"]["files"] == {"a.safetensors": "cd" * 32}
    recording = clip(tmp_path / "b.mp4")
    credentials.sign(recording, credentials.Statement("captured"), keys.identity())
    assert credentials.DISCLOSURE_LABEL not in credentials.read(recording, "").record  # no model made it


def test_crjson_is_printed(tmp_path):
    done = CliRunner().invoke(cli.app, ["verify", str(made(tmp_path / "a.png")), "--crjson"])
    words = json.loads(done.output)
    assert done.exit_code == 0 and words["@context"]["@vocab"] == "https://c2pa.org/crjson"
    assert words["manifests"][0]["claim.v2"]["claim_generator_info"]["specVersion"] == "2.4.0"
    Image.new("RGB", (32, 32)).save(tmp_path / "plain.png")
    done = CliRunner().invoke(cli.app, ["verify", str(tmp_path / "plain.png"), "--crjson"])
    assert done.exit_code == 1 and "holds no credential" in done.output
    done = CliRunner().invoke(cli.app, ["verify", str(tmp_path), "--crjson"])
    assert done.exit_code == 2


def test_a_missing_time_stamp_is_said(tmp_path):
    path = made(tmp_path / "a.png")
    assert credentials.read(path, "").signed_at is None
    assert "no time stamp says when" in "\n".join(verify.verify(path).lines())


def test_a_time_stamp_authority_that_does_not_answer_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("SORANO_TSA", "http://127.0.0.1:9/")
    path = clip(tmp_path / "a.mp4")
    before = path.read_bytes()
    with pytest.raises(TrustError, match="could not be signed"):
        credentials.sign(path, STATEMENT, keys.identity())
    assert path.read_bytes() == before


TSA = """[tsa]
default_tsa = clock
[clock]
serial = {0}/serial
signer_cert = {0}/tsa.pem
certs = {0}/root.pem
signer_key = {0}/tsa.key
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256, sha384, sha512
accuracy = secs:1
ess_cert_id_alg = sha256
"""


@pytest.fixture
def authority(tmp_path, monkeypatch):
    """A time-stamp authority (RFC 3161) on this machine, which SORANO_TSA names; a PEM file of its root."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.x509.oid import ExtendedKeyUsageOID

    root_key, root = keys._make_root("Clock")
    key = rsa.generate_private_key(65537, 2048)
    begins, ends = root.not_valid_before_utc, root.not_valid_after_utc
    number = x509.random_serial_number()
    builder = x509.CertificateBuilder(root.subject, keys._subject("Clock"), key.public_key(), number, begins, ends)
    for extension, critical in [
        (x509.BasicConstraints(False, None), True),
        (keys._usage(signs_certificates=False), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), True),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), False),
        (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
    ]:
        builder = builder.add_extension(extension, critical)
    folder = tmp_path / "tsa"
    folder.mkdir()
    (folder / "tsa.pem").write_text(keys.to_pem(builder.sign(root_key, hashes.SHA256())))
    (folder / "root.pem").write_text(keys.to_pem(root))
    form = serialization.PrivateFormat.PKCS8
    (folder / "tsa.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    (folder / "serial").write_text("01\n")
    (folder / "tsa.conf").write_text(TSA.format(folder))

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            (folder / "query").write_bytes(self.rfile.read(int(self.headers["Content-Length"])))
            words = ["openssl", "ts", "-reply", "-config", "tsa.conf", "-queryfile", "query", "-out", "reply"]
            subprocess.run(words, cwd=folder, check=True, capture_output=True)
            reply = (folder / "reply").read_bytes()
            self.send_response(200)
            self.send_header("Content-Type", "application/timestamp-reply")
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("SORANO_TSA", f"http://127.0.0.1:{server.server_port}/")
        yield folder / "root.pem"
        server.shutdown()
        thread.join()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl stamps the time")
def test_a_time_stamp_is_kept_and_known_authorities_are_told_from_others(tmp_path, authority):
    path = clip(tmp_path / "a.mp4")
    credentials.sign(path, STATEMENT, keys.identity())
    stranger, known = credentials.read(path, roots.anchors()), credentials.read(path, roots.anchors(authority))
    assert (stranger.state, stranger.stamp_trusted, known.stamp_trusted) == ("trusted", False, True)
    assert stranger.signed_at == known.signed_at and known.signed_at.startswith("20")
    assert "by an authority that is unknown here" in "\n".join(verify.verify(path).lines())
    text = "\n".join(verify.verify(path, trust=authority).lines())
    assert f"time stamped {known.signed_at}" in text and "unknown here" not in text


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl stamps the time")
def test_a_known_time_stamp_outlives_the_certificate(tmp_path, authority, monkeypatch):
    from datetime import UTC, datetime

    monkeypatch.setenv("SORANO_CONFIG", str(tmp_path / "config"))
    keys.identity()
    monkeypatch.setattr(keys, "LEAF_YEARS", 2 / (365 * 86400))  # two seconds
    monkeypatch.setattr(keys, "RENEW_DAYS", -1)
    path = clip(tmp_path / "a.png.mp4")
    signer = keys.rotate()
    credentials.sign(path, STATEMENT, signer)
    while datetime.now(UTC) <= signer.leaf.not_valid_after_utc:
        time.sleep(0.2)
    time.sleep(1)
    found = credentials.read(path, roots.anchors(authority))
    assert (found.state, found.signer) == ("trusted", signer.name)
    assert credentials.read(path, roots.anchors()).state == "ended"  # anyone can stamp any time


# Stores.


def test_junk_under_an_id_hides_no_manifest(tmp_path, monkeypatch):
    monkeypatch.setenv("SORANO_STORE", str(tmp_path / "own"))
    path = clip(tmp_path / "a.mp4")
    right = credentials.sign(path, STATEMENT, keys.identity())
    stranger, _ = impostor(tmp_path, keys.identity().name)
    junk = credentials.sign(clip(tmp_path / "b.mp4"), STATEMENT, stranger)
    folder = tmp_path / "shared" / store.name_of(STATEMENT.mark_id)
    folder.mkdir(parents=True)
    for index in range(40):
        (folder / f"{index:032x}.c2pa").write_bytes(junk + bytes(index))
        (folder / f"a{index:031x}.c2pa").write_bytes(b"junk" * index)
    (folder / f"{50:032x}.c2pa").symlink_to(tmp_path / "nowhere")
    (folder / f"{51:032x}.c2pa").mkdir()
    (folder / "large.c2pa").write_bytes(bytes(store.MAX_STORE_BYTES + 1))
    (folder / ("f" * 32 + ".c2pa")).write_bytes(right)
    found = store.search(STATEMENT.mark_id, [tmp_path / "shared"], roots.anchors())
    assert found.manifests[0] == right and len(found.manifests) == 1 + store.MOST_OTHERS and found.notes == ()
    assert right in store.find(STATEMENT.mark_id, [tmp_path / "shared"], roots.anchors())


def test_what_a_store_holds_beyond_the_bounds_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "MOST_FILES", 10)
    place = store.put(7, b"x" * 100, tmp_path / "shared").parent
    for index in range(30):
        (place / f"{index}.c2pa").write_bytes(b"y" * (200 + index))
    found = store.search(7, [tmp_path / "shared"])
    assert found.manifests[0] == b"x" * 100 and "31 manifests of this id; 10 were looked at" in found.notes[0]


def test_one_folder_takes_nothing_from_another(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "MOST_FILES", 3)
    monkeypatch.setenv("SORANO_STORE", str(tmp_path / "own"))
    store.put(7, b"own")
    for folder in ("one", "two"):
        for index in range(5):
            store.put(7, f"{folder} {index}".encode(), tmp_path / folder)
    found = store.find(7, [tmp_path / "one", tmp_path / "two"])
    assert b"own" in found and len(found) == 7


def test_an_ended_certificate_is_told_from_changed_bytes(tmp_path, monkeypatch):
    import time
    from datetime import UTC, datetime, timedelta

    monkeypatch.setenv("SORANO_CONFIG", str(tmp_path / "config"))
    keys.identity()
    monkeypatch.setattr(keys, "LEAF_YEARS", 2 / (365 * 86400))  # two seconds
    monkeypatch.setattr(keys, "RENEW_DAYS", -1)
    path = clip(tmp_path / "a.mp4")
    credentials.sign(path, STATEMENT, keys.rotate())
    assert credentials.read(path, roots.anchors()).state == "trusted"
    while keys._certificate(keys.keys_folder() / "leaf.pem").not_valid_after_utc + timedelta(seconds=1) > datetime.now(
        UTC
    ):
        time.sleep(0.2)
    assert credentials.read(path, roots.anchors()).state == "ended"
    with pytest.raises(TrustError, match="was valid until"):
        credentials.sign(clip(tmp_path / "b.mp4"), STATEMENT, keys.identity())


def test_a_signer_that_fails_leaves_the_file_as_it_was(tmp_path):
    path = clip(tmp_path / "a.mp4")
    before = path.read_bytes()

    def refuse(data):
        raise TrustError("the card was taken out")

    broken = keys.Identity(keys.identity().chain_pem, refuse)
    with pytest.raises(TrustError, match="card was taken out"):
        credentials.sign(path, STATEMENT, broken)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_a_place_without_c2pa_is_said(tmp_path):
    (tmp_path / "a.mkv").write_bytes(b"\x1a\x45\xdf\xa3" + bytes(100))
    with pytest.raises(TrustError, match=r"no place.*\.mkv"):
        credentials.sign(tmp_path / "a.mkv", STATEMENT, keys.identity())


@pytest.mark.skipif(importlib.util.find_spec("encypher_c2pa") is None, reason="pip install encypher-c2pa")
def test_a_second_implementation_agrees(tmp_path):
    import encypher_c2pa

    path = made(tmp_path / "a.mp4")

    def asked(file: Path, pem):
        report = encypher_c2pa.verify(
            str(file), "video/mp4", trust_pem=pem, no_default_trust=True, telemetry=False, online=False
        )
        return json.dumps(report, default=str)

    assert "Trusted" in asked(path, roots.anchors()) or '"trusted"' in asked(path, roots.anchors()).lower()
    data = bytearray(path.read_bytes())
    data[data.index(b"mdat") + 100] ^= 1
    path.write_bytes(data)
    assert "bmffHash.mismatch" in asked(path, roots.anchors())
