"""Trust on the path: whatever leaves Sorano is marked, labelled, signed and read back."""

import dataclasses
import importlib
import json
import os
import time

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

import sorano
from sorano import asset_cache, cli, errors, remix, stream, video
from sorano.trust import record, release, seal
from sorano.trust.provenance import credentials, keys, label, roots, store
from sorano.trust.verify import Verdict

path = importlib.import_module("sorano.engine")
PROMPT = "a red ball bounces on the grass at sunset"

# Every public verb: those that write videos and pictures, and those that do not.
WRITES = {"generate", "image", "extend", "loop", "blend", "edit", "remix", "film", "resume", "batch", "mark"}
LABELS_ONLY = {"label"}  # writes what others made, and signs nothing
WRITES_NONE = {"plan", "verify", "train", "score", "pull", "list", "show", "rm", "keys", "trust", "doctor"}
WRITES_NONE |= {"serve", "worker", "ps", "cancel"}  # a worker writes through `Engine`: tests/e2e/test_serve_process.py
WRITES_NONE |= {"export"}  # models; the page that it writes marks and signs by itself: tests/e2e/test_site.py
WRITES_NONE |= {"desk"}  # approvals, receipts and case files, no media


def make(folder, **options):
    return sorano.generate(PROMPT, **{"preset": str(folder), "seed": 1, "device": "cpu", **options})


def require_signed(file):
    """A file as it must leave: signed under our root, labelled, and known to the store."""
    report = sorano.verify(file).require()
    found = credentials.read(file, roots.anchors())
    assert found.state == "trusted" and found.mark_id is not None and found.fingerprint is not None
    (one,) = label.read(file)
    assert one.label is not None and label.signature_holds(one.label) is True
    number = f"sorano-{store.name_of(found.mark_id)}"
    assert number in (one.label.produce_id, one.label.propagate_id)  # ours, or passed on by us
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
    monkeypatch.setattr(stream, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(stream, "WORTH_KEEPING_SECONDS", 0.0)
    with monkeypatch.context() as patched:
        patched.setattr(stream, "decode", lambda *_: (_ for _ in ()).throw(errors.NumericsError("stopped")))
        with pytest.raises(errors.NumericsError):
            make(tiny_folder, output=tmp_path / "a.mp4")
    path.resume(tmp_path / "a.mp4")
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
    assert all(len(digest) == 64 for digest in found.record["model"]["files"].values())
    assert found.record["c2pa.ai-disclosure"]["modelName"] == found.record["model"]["name"]
    make(tiny_folder, output=tmp_path / "shut.mp4", private=True, image=tmp_path / "first.png")
    found = credentials.read(tmp_path / "shut.mp4", roots.anchors())
    assert "prompt" not in found.record and found.ingredients == ("input 1",)  # words are hidden, never origin
    for word in (b"red ball", b"first.png"):
        assert word not in (tmp_path / "shut.mp4").read_bytes()


# Markings of inputs are kept.


@pytest.fixture
def signed_inputs(tmp_path_factory):
    """A signed clip made by AI, a signed picture and a plain mask: (clip, picture, mask)."""
    folder = tmp_path_factory.mktemp("inputs")
    frames = np.random.default_rng(0).integers(0, 255, (9, 32, 32, 3), np.uint8)
    clip, picture, mask = folder / "signed.mp4", folder / "signed.png", folder / "mask.png"
    video.write_video(clip, frames, 8)
    Image.fromarray(frames[0]).save(picture)
    Image.new("L", (32, 32), 255).save(mask)
    for file in (clip, picture):
        credentials.sign(file, credentials.Statement("made", title=file.name), keys.identity())
    return clip, picture, mask


# Every verb that takes files: what it is asked with, from a signed clip, a signed picture and a mask.
TAKES = {
    "image": lambda clip, picture, mask: {"image": picture},
    "last": lambda clip, picture, mask: {"last": picture},
    "keyframe": lambda clip, picture, mask: {"conditions": [sorano.Keyframe(0.5, picture)]},
    "extend": lambda clip, picture, mask: {"conditions": [sorano.Continue(clip)]},
    "loop": lambda clip, picture, mask: {"conditions": [sorano.Loop(clip)]},
    "blend": lambda clip, picture, mask: {"conditions": [sorano.Blend(clip, clip.with_name("other.mp4"))]},
    "edit": lambda clip, picture, mask: {"conditions": [sorano.Edit(clip)]},
    "region": lambda clip, picture, mask: {"conditions": [sorano.Region(clip, mask=mask)]},
    "film": lambda clip, picture, mask: {
        "shots": [sorano.Shot(image=picture), sorano.Shot(prompt="it rains", video=clip)]
    },
}
FILES = ("image", "video", "first", "second", "mask")


def test_every_verb_that_takes_files_is_among_them():
    """A new condition that names files must be tested here."""
    from sorano import conditions, storyboard

    known = {name for name, one in vars(conditions).items()
             if isinstance(one, type) and issubclass(one, conditions.Condition) and one.files}  # fmt: skip
    assert known == {"FirstFrame", "LastFrame", "Keyframe", "Continue", "Loop", "Blend", "Edit", "Region"}
    fields = {field.name for field in dataclasses.fields(storyboard.Shot)}
    assert fields & set(FILES) == {"image", "video"}


@pytest.mark.parametrize("verb", TAKES)
@pytest.mark.parametrize("private", [False, True])
def test_a_signed_input_of_any_verb_becomes_an_ingredient_with_its_own_manifest(verb, private, signed_inputs, tmp_path):
    clip, picture, mask = signed_inputs
    other = clip.with_name("other.mp4")
    other.write_bytes(clip.read_bytes())
    request = sorano.Request(prompt=PROMPT, private=private, **TAKES[verb](clip, picture, mask))
    given = seal.given_files(request)
    assert [one.path for one in given] == list(request.files) and given
    assert sum(one.relationship == "parentOf" for one in given) == (clip in request.files)
    made = tmp_path / "made.mp4"
    video.write_video(made, np.full((5, 32, 32, 3), 90, np.uint8), 8)
    kind = seal.kind_of(given)
    credentials.sign(made, credentials.Statement(kind, ingredients=given), keys.identity())
    found = credentials.read(made, roots.anchors())
    assert found.state == "trusted" and found.kind == ("edited" if clip in request.files else "made")
    for one, source in zip(given, found.sources, strict=True):
        signed = one.path != mask
        assert (source.state, source.kind) == (("trusted", "made") if signed else ("none", None))
        assert source.title == (source.title if private else one.path.name)
        assert not private or source.title.startswith("input ")


def test_a_remix_keeps_the_manifests_of_what_its_model_was_given(signed_inputs, tmp_path):
    """A remix takes the words of a video, and the files that it was made of, which are kept byte for byte."""
    clip, picture, _ = signed_inputs
    first = sorano.Request(prompt=PROMPT, image=picture, conditions=[sorano.Continue(clip)])
    record = {"request": first.to_dict(), "files": asset_cache.keep(first.named_files)}
    video.write_video(tmp_path / "first.mp4", np.full((5, 32, 32, 3), 90, np.uint8), 8, metadata=record)
    picture.unlink()
    clip.unlink()
    words = remix.request_of(tmp_path / "first.mp4")
    given = seal.given_files(sorano.Request(**{**words, "prompt": "a blue ball"}))
    made = video.write_video(tmp_path / "made.mp4", np.full((5, 32, 32, 3), 90, np.uint8), 8)
    credentials.sign(made, credentials.Statement("edited", ingredients=given), keys.identity())
    assert [one.state for one in credentials.read(made, roots.anchors()).sources] == ["trusted", "trusted"]


def test_an_input_that_is_gone_is_named_all_the_same(signed_inputs, tmp_path):
    clip, picture, _ = signed_inputs
    request = sorano.Request(prompt=PROMPT, image=picture, conditions=[sorano.Continue(clip)])
    clip.unlink()
    picture.unlink()
    given = seal.given_files(request)
    assert [(one.title, one.relationship) for one in given] == [("signed.png", "inputTo"), ("signed.mp4", "parentOf")]
    made = video.write_video(tmp_path / "made.mp4", np.full((5, 32, 32, 3), 90, np.uint8), 8)
    credentials.sign(made, credentials.Statement("edited", ingredients=given), keys.identity())
    assert [one.state for one in credentials.read(made, roots.anchors()).sources] == ["none", "none"]


def test_a_real_run_keeps_the_manifest_of_what_it_was_given(tiny_folder, signed_inputs, tmp_path):
    clip, picture, _ = signed_inputs
    make(tiny_folder, output=tmp_path / "a.mp4", image=picture)
    require_signed(tmp_path / "a.mp4")
    (source,) = credentials.read(tmp_path / "a.mp4", roots.anchors()).sources
    assert (source.title, source.relationship, source.state) == ("signed.png", "inputTo", "trusted")
    make(tiny_folder, output=tmp_path / "b.mp4", conditions=[sorano.Continue(tmp_path / "a.mp4")], private=True)
    assert require_signed(tmp_path / "b.mp4").kind == "edited"
    (source,) = credentials.read(tmp_path / "b.mp4", roots.anchors()).sources
    assert (source.title, source.relationship, source.state) == ("input 1", "parentOf", "trusted")


# No laundering: what AI made is not marked as a recording.


def footage(seconds=2.0):
    frames = np.random.default_rng(3).integers(0, 255, (9, 12, 3), np.uint8)
    still = np.asarray(Image.fromarray(frames).resize((256, 192), Image.Resampling.BICUBIC))
    return np.stack([np.roll(still, 2 * index, 1) for index in range(round(seconds * 12))])


def ai_clips(folder):
    """One clip for each way in which a file says that AI made it."""
    frames = footage()
    plain = video.write_video(folder / "plain.mp4", frames, 12)
    signed = folder / "signed.mp4"
    signed.write_bytes(plain.read_bytes())
    credentials.sign(signed, credentials.Statement("made"), keys.identity())
    composite = folder / "composite.mp4"
    composite.write_bytes(plain.read_bytes())
    part = credentials.Ingredient(signed, "inputTo", "signed.mp4")
    credentials.sign(composite, credentials.Statement("captured", ingredients=[part]), keys.identity())
    labelled = folder / "labelled.mp4"
    labelled.write_bytes(plain.read_bytes())
    label.write(labelled, label.Label(producer="Somebody", produce_id="7"))
    marked, _ = release.mark(frames, 12)
    video.write_video(folder / "marked.mp4", marked, 12)
    video.write_video(folder / "recorded.mp4", frames, 12, metadata={"preset": {"name": "world"}})
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="r"><rdf:Description Iptc4xmpExt:DigitalSourceType='
    xmp += b'"http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"/></rdf:RDF></x:xmpmeta>'
    Image.fromarray(frames[0]).save(folder / "xmp.jpg", xmp=xmp)
    return {"signed.mp4": "its credential", "composite.mp4": "its credential", "labelled.mp4": "its label",
            "marked.mp4": "the public mark", "recorded.mp4": "Sorano made it", "xmp.jpg": "its XMP"}  # fmt: skip


def test_what_ai_made_is_not_marked_as_a_recording(tmp_path):
    for name, reason in ai_clips(tmp_path).items():
        before = sorted(tmp_path.iterdir())
        with pytest.raises(errors.RequestError, match=f"cannot be marked as a recording: .*{reason}"):
            record.mark_file(tmp_path / name)
        if name == "marked.mp4" or os.environ.get("SORANO_FULL") == "1":  # each search for a mark takes seconds
            with pytest.raises(errors.RequestError, match="cannot be marked as a recording"):
                record.mark_file(tmp_path / name, words=record.Marking(private=True))
        assert sorted(tmp_path.iterdir()) == before
    done = record.mark_file(tmp_path / "plain.mp4")  # a recording is one still
    assert done.report.kind == "captured" and credentials.read(done.path, roots.anchors()).sources == ()


def test_what_ai_made_stays_that_with_its_source_and_its_label(tmp_path):
    ai_clips(tmp_path)
    done = record.mark_file(tmp_path / "labelled.mp4", words=record.Marking(kind="made", producer="A platform"))
    (found,) = label.read(done.path)
    assert found.fields["ContentProducer"] == "Somebody" and found.fields["ProduceID"] == "7"
    assert found.fields["ContentPropagator"] == "A platform"
    assert [one.title for one in credentials.read(done.path, roots.anchors()).sources] == ["labelled.mp4"]
    done = record.mark_file(tmp_path / "signed.mp4", words=record.Marking(kind="made"))
    (source,) = credentials.read(done.path, roots.anchors()).sources
    assert (source.title, source.kind, source.state) == ("signed.mp4", "made", "trusted")
    words = record.Marking(kind="edited", source=tmp_path / "plain.mp4")
    done = record.mark_file(tmp_path / "marked.mp4", words=words)
    found = credentials.read(done.path, roots.anchors())
    assert [(one.title, one.relationship) for one in found.sources] == [
        ("plain.mp4", "parentOf"),
        ("marked.mp4", "inputTo"),
    ]


def test_a_signed_recording_stays_an_ingredient_of_a_private_one(tmp_path):
    plain = video.write_video(tmp_path / "plain.mp4", footage(), 12)
    credentials.sign(plain, credentials.Statement("captured", title="a meeting"), keys.identity())
    done = record.mark_file(plain, words=record.Marking(private=True))
    (source,) = credentials.read(done.path, roots.anchors()).sources
    assert (source.title, source.kind, source.state) == ("input 1", "captured", "trusted")


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
    make(tiny_folder, output=tmp_path / "in.mp4", audience="in", upscale=8)
    found = credentials.read(tmp_path / "in.mp4", roots.anchors())
    assert label.sign_found(video.read_video(tmp_path / "in.mp4").frames_THWC[-1]) == "AI-generated"
    said = found.record["disclosure"]
    assert said["id"] == store.name_of(found.mark_id) and said["provider"] == "Sorano" and "model" in said["system"]
    states = {one.regime: one.state for one in record.check_labels(tmp_path / "in.mp4")}
    assert states["US-CA SB 942"] == states["IN IT Rules, rule 3(3)"] == "yes"
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
    from support import footage

    from sorano.trust.watermark import detect

    frames = footage.clip("street", 256, 256, 17, 0)
    marked, chosen = release.mark(frames, 12)
    read = release.read_mark(chosen, [marked], 12)
    seen = detect.detect([marked], fps=12, thorough=False)
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
