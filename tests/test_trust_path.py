"""Trust on the path: whatever leaves Sorano is marked, labelled, signed and read back."""

import importlib
import json
import time

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

import sorano
from sorano import cli, errors, kept, video
from sorano.trust import credentials, keys, label, release, roots, store
from sorano.trust.verify import Verdict

path = importlib.import_module("sorano.generate")
PROMPT = "a red ball bounces on the grass at sunset"

# Every public verb: those that write videos and pictures, and those that do not.
WRITES = {"generate", "image", "extend", "loop", "blend", "edit", "remix", "film", "resume", "mark"}
LABELS_ONLY = {"label"}  # writes what others made, and signs nothing
WRITES_NONE = {"plan", "verify", "train", "score", "pull", "list", "show", "rm", "keys", "trust"}


def make(folder, **options):
    return sorano.generate(PROMPT, **{"preset": str(folder), "seed": 1, "device": "cpu", **options})


def require_signed(file):
    """A file as it must leave: signed under our root, labelled, and known to the store."""
    report = sorano.verify(file).require()
    found = credentials.read(file, roots.anchors())
    assert found.state == "trusted" and found.mark_id is not None and found.fingerprint is not None
    (one,) = label.read(file)
    assert one.label is not None and label.signature_holds(one.label) is True
    assert one.label.produce_id == f"sorano-{store.name_of(found.mark_id)}"
    assert store.find(found.mark_id)
    return report


def test_every_verb_is_known_here():
    commands = set(typer.main.get_command(cli.app).commands)
    assert commands == WRITES | LABELS_ONLY | WRITES_NONE, "a new verb: does what it writes leave signed?"


def test_what_generate_and_save_write_leaves_signed(tiny_folder, tmp_path):
    made = make(tiny_folder, output=tmp_path / "a.mp4", sheet=tmp_path / "a.png", upscale=8)
    assert made.report.verdict is Verdict.VERIFIED and made.report.path == str(tmp_path / "a.mp4")
    assert made.report.kind == "made" and made.report.mark_id is not None
    assert sorano.read_metadata(tmp_path / "a.mp4") == made.record  # the record of the request survives
    for file in ("a.mp4", "a.png"):
        assert require_signed(tmp_path / file).kind == "made"
    require_signed(made.save(tmp_path / "b.mp4"))
    for suffix in ("jpg", "webp"):
        require_signed(made.save_sheet(tmp_path / f"c.{suffix}"))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.mp4", "a.png", "b.mp4", "c.jpg", "c.webp"]


def test_the_commands_leave_signed_files(tiny_folder, tmp_path):
    words = ["generate", PROMPT, "--preset", tiny_folder, "--seed", 1, "--device", "cpu", "-o", tmp_path / "a.mp4"]
    done = CliRunner().invoke(cli.app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    require_signed(tmp_path / "a.mp4")
    done = CliRunner().invoke(cli.app, ["mark", str(tmp_path / "a.mp4"), "--made", "-o", str(tmp_path / "b.mp4")])
    assert done.exit_code == 0, done.output
    require_signed(tmp_path / "b.mp4")


def test_what_resume_writes_leaves_signed(tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "RESUME_SECONDS", 0.0)
    with monkeypatch.context() as patched:
        patched.setattr(path, "decode", lambda *_: (_ for _ in ()).throw(errors.NumericsError("stopped")))
        with pytest.raises(errors.NumericsError):
            make(tiny_folder, output=tmp_path / "a.mp4")
    (latent,) = tmp_path.glob("*.latent.safetensors")
    path.resume(latent)
    require_signed(tmp_path / "a.mp4")


def test_the_same_request_gives_the_same_marked_pixels(tiny_folder, tmp_path, steady_coder):
    for name in ("a.mp4", "b.mp4"):
        make(tiny_folder, output=tmp_path / name, upscale=8)
    first, second = (video.read_video(tmp_path / name).frames_THWC for name in ("a.mp4", "b.mp4"))
    np.testing.assert_array_equal(first, second)


def test_the_prompt_is_signed_only_if_it_may_be_told(tiny_folder, tmp_path):
    Image.new("RGB", (32, 32), (200, 30, 40)).save(tmp_path / "first.png")
    make(tiny_folder, output=tmp_path / "open.mp4", image=tmp_path / "first.png")
    found = credentials.read(tmp_path / "open.mp4", roots.anchors())
    assert found.record["prompt"] == PROMPT and found.ingredients == ("first.png",)
    assert len(found.record["request"]["sha256"]) == len(found.record["model"]["sha256"]) == 64
    make(tiny_folder, output=tmp_path / "shut.mp4", private=True, image=tmp_path / "first.png")
    found = credentials.read(tmp_path / "shut.mp4", roots.anchors())
    assert "prompt" not in found.record and found.ingredients == ()
    assert b"red ball" not in (tmp_path / "shut.mp4").read_bytes()


def test_the_audience_cn_gets_a_visible_sign(tiny_folder, tmp_path):
    make(tiny_folder, output=tmp_path / "cn.mp4", audience="cn", upscale=8, producer="001191110102MAD55U9H0F10002")
    frames = video.read_video(tmp_path / "cn.mp4").frames_THWC
    assert all(label.sign_found(frame) == "AI生成" for frame in frames)
    assert label.read(tmp_path / "cn.mp4")[0].fields["ContentProducer"] == "001191110102MAD55U9H0F10002"
    make(tiny_folder, output=tmp_path / "none.mp4", audience="cn", visible_label=False, upscale=8)
    assert label.sign_found(video.read_video(tmp_path / "none.mp4").frames_THWC[0]) is None
    make(tiny_folder, output=tmp_path / "en.mp4", visible_label=True, upscale=8)
    assert label.sign_found(video.read_video(tmp_path / "en.mp4").frames_THWC[0]) == "AI-generated"
    with pytest.raises(errors.RequestError, match="unknown audience"):
        make(tiny_folder, audience="us")
    with pytest.raises(errors.RequestError, match="producer"):
        make(tiny_folder, producer=" ")


def test_a_key_that_cannot_be_used_stops_it_before_any_work(tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("SORANO_CONFIG", str(tmp_path / "config"))
    keys.identity()
    (keys.keys_folder() / "leaf.key").write_text("broken")
    monkeypatch.setattr(path, "choose_machine", lambda *_: pytest.fail("work began"))
    with pytest.raises(errors.TrustError, match=r"leaf\.key"):
        make(tiny_folder, output=tmp_path / "a.mp4")


def test_a_signature_that_does_not_hold_withholds_the_file(tiny_folder, tmp_path, monkeypatch):
    real = credentials.sign

    def spoiled(file, statement, signer):
        manifest = real(file, statement, signer)
        data = bytearray(file.read_bytes())
        data[20] ^= 1  # in ftyp, which C2PA's own hash leaves out
        file.write_bytes(data)
        return manifest

    monkeypatch.setattr(credentials, "sign", spoiled)
    with pytest.raises(errors.TrustError, match="reading it back"):
        make(tiny_folder, output=tmp_path / "a.mp4")
    assert list(tmp_path.iterdir()) == []


def test_a_mark_that_does_not_read_is_recorded_and_the_file_delivered(tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(release, "read_mark", lambda *_: None)
    made = make(tiny_folder, output=tmp_path / "a.mp4")
    assert made.report.verdict is Verdict.VERIFIED
    assert any("was not read" in one.found for one in made.report.evidence)


def test_reading_back_agrees_with_a_strangers_detection():
    """The first look at what was just written, and the decoder that knows nothing: the slow twin."""
    import footage

    from sorano.trust import watermark

    frames = footage.clip("street", 256, 256, 17, 0)
    marked, chosen = release.mark(frames, 12)
    read = release.read_mark(chosen, [marked], 12)
    seen = watermark.detect([marked], fps=12, thorough=False)
    assert (read.id, read.kind) == (seen.payload.id, seen.payload.kind) == (chosen.id, "made")
    assert release.read_mark(chosen, [frames], 12) is None
    other = release.Mark("made", chosen.id ^ 1)
    assert release.read_mark(other, [marked], 12) is None  # another id


def test_trust_costs_a_small_part_of_a_generation(tiny_folder, tmp_path):
    """benchmarks/trust.py has the share; here only that nothing slow came in: everything in half a second, warm."""
    made = make(tiny_folder, upscale=8)
    made.save(tmp_path / "a.mp4")
    spent = []
    for index in range(3):
        began = time.process_time()
        made.save(tmp_path / f"{index}.mp4")
        spent.append(time.process_time() - began)
    assert min(spent) < 1.0, spent


def test_the_report_is_json(tiny_folder, tmp_path):
    made = make(tiny_folder, output=tmp_path / "a.mp4")
    assert json.loads(json.dumps(made.report.to_dict()))["verdict"] == "VERIFIED"
