"""Credentials: signed and read back, trusted only under a known root, and no byte changes unseen."""

import importlib.util
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sorano import video
from sorano.errors import TrustError, VideoError
from sorano.trust import containers, credentials, embedding, keys, label, roots

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
    carrier = keys.Carrier("0123456789abcdef", bytes(32), "now")
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
