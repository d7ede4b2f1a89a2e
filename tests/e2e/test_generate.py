"""The main path on tiny random networks: what is made, what is recorded, and what stops a run and when."""

import dataclasses
import hashlib
import importlib
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import sorano
from sorano import errors, pipeline, result, stream, video
from sorano.models import checkpoint
from sorano.plan import Machine
from sorano.plan import machine as plan_machine
from sorano.request import Request

path = importlib.import_module("sorano.engine")
PROMPT = "a red ball bounces on the grass at sunset"


class Notes(sorano.Listener):
    """Keeps what a run said."""

    def __init__(self):
        self.events, self.notes, self.progressed = [], [], []

    def planned(self, job, machine, estimate):
        self.events.append("planned")
        self.job, self.machine, self.estimate = job, machine, estimate

    def note(self, text):
        self.events.append("note")
        self.notes.append(text)

    def progress(self, stage, done, total):
        self.events.append(stage)
        self.progressed.append((stage, done, total))


def make(folder, prompt=PROMPT, **options):
    return sorano.generate(prompt, **{"preset": str(folder), "seed": 1, "upscale": 1, "device": "cpu", **options})


@pytest.fixture
def own_folder(tiny_folder, tmp_path):
    """A copy of the tiny model that a test may damage."""
    return shutil.copytree(tiny_folder, tmp_path / "own")


def test_a_sentence_becomes_a_video(tiny_folder, tmp_path):
    made = make(tiny_folder)
    assert made.frames_THWC.shape == (9, 32, 32, 3) and made.frames_THWC.dtype == np.uint8
    assert made.fps == 8
    saved = made.save(tmp_path / "a.mp4")
    assert made.path == saved
    clip = video.read_video(saved)
    assert (clip.codec, clip.pixel_format, clip.fps) == ("h264", "yuv420p", 8)
    assert clip.frames_THWC.shape == made.frames_THWC.shape


def test_the_same_request_gives_the_same_video_and_another_seed_another(tiny_folder):
    first, again, other = make(tiny_folder), make(tiny_folder), make(tiny_folder, seed=2)
    np.testing.assert_array_equal(first.frames_THWC, again.frames_THWC)
    assert (first.frames_THWC != other.frames_THWC).mean() > 0.5
    np.testing.assert_array_equal(sorano.generate(first.request).frames_THWC, first.frames_THWC)


def test_every_word_of_the_request_matters(tiny_folder):
    plain = make(tiny_folder).frames_THWC
    for options in (
        {"prompt": "a blue cube on sand"},
        {"negative_prompt": "red"},
        {"guidance": 1.0},
        {"num_steps": 5},
    ):
        assert (make(tiny_folder, **options).frames_THWC != plain).any(), options


def test_a_negative_prompt_means_nothing_without_guidance(tiny_folder):
    plain = make(tiny_folder, guidance=1.0).frames_THWC
    np.testing.assert_array_equal(make(tiny_folder, guidance=1.0, negative_prompt="red").frames_THWC, plain)


def test_what_was_made_is_upscaled_with_lanczos(tiny_folder):
    native, larger = make(tiny_folder), make(tiny_folder, upscale="auto")
    assert larger.frames_THWC.shape == (9, 256, 256, 3)
    np.testing.assert_array_equal(larger.frames_THWC, video.resize(native.frames_THWC, 256, 256))


def test_the_plan_comes_first_then_progress(tiny_folder):
    notes = Notes()
    make(tiny_folder, listener=notes, upscale="auto")
    assert notes.events[0] == "planned"
    assert "Lanczos" in notes.notes[0]
    assert [step for step in notes.progressed if step[0] == "denoise"] == [("denoise", i, 3) for i in range(4)]
    assert notes.progressed[-1] == ("decode", 3, 3)


def test_the_record_in_the_file_tells_how_it_was_made(tiny_folder, tmp_path):
    made = make(tiny_folder, output=tmp_path / "a.mp4")
    record = sorano.read_metadata(tmp_path / "a.mp4")
    assert record == made.record
    assert record["request"]["prompt"] == PROMPT and record["request"]["seed"] == 1
    assert "output" not in record["request"] and str(tmp_path) not in json.dumps(record)
    weights = tiny_folder / "transformer" / "diffusion_pytorch_model.safetensors"
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert record["preset"]["sha256"]["transformer/diffusion_pytorch_model.safetensors"] == digest
    assert record["planned"]["seconds"] > 0 and record["planned"]["peak_bytes"] > 0
    assert record["measured"]["peak_bytes"] > 0
    assert {"load", "text", "denoise", "decode"} <= set(record["measured"]["stages"])
    again = sorano.generate(Request(**{**record["request"], "preset": str(tiny_folder)}))
    np.testing.assert_array_equal(again.frames_THWC, made.frames_THWC)


def test_a_private_request_leaves_no_words_in_the_file(tiny_folder, tmp_path):
    Image.new("RGB", (32, 32), (200, 30, 40)).save(tmp_path / "holiday.png")
    made = make(tiny_folder, private=True, image=tmp_path / "holiday.png", output=tmp_path / "a.mp4")
    data = (tmp_path / "a.mp4").read_bytes()
    assert b"red ball" not in data and b"holiday" not in data
    assert "prompt" not in sorano.read_metadata(tmp_path / "a.mp4")["request"]
    assert "ball" not in str(result.default_path(made.request))


def test_an_image_is_the_known_first_latent_frame(tiny_folder, tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (40, 80, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "wide.png")
    notes, seen = Notes(), {}
    denoise = stream.denoise

    def spy(model, job, text, state, listener, *rest):
        seen["state"], seen["latent"] = state, denoise(model, job, text, state, listener)
        return seen["latent"]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream, "denoise", spy)
        given = make(tiny_folder, image=tmp_path / "wide.png", listener=notes)
    assert any("80x40" in note and "cropped" in note for note in notes.notes)
    assert torch.equal(seen["latent"][:, :, 0], seen["state"].known_BCTHW[:, :, 0])
    assert not torch.equal(seen["latent"][:, :, 1], seen["state"].known_BCTHW[:, :, 1])
    assert (given.frames_THWC != make(tiny_folder).frames_THWC).mean() > 0.5


def test_a_file_name_comes_from_the_prompt_and_is_never_taken(tmp_path):
    request = Request(prompt=PROMPT, seed=7)
    first = result.default_path(request, tmp_path)
    assert first.name == "a-red-ball-bounces-on-the-grass-at-sunset-7.mp4"
    first.write_text("")
    second = result.default_path(request, tmp_path)
    assert second.name.endswith("-7-2.mp4")
    second.write_text("")
    assert result.default_path(request, tmp_path).name.endswith("-7-3.mp4")


def test_the_file_that_save_names_is_in_this_folder(tiny_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert make(tiny_folder).save() == tmp_path / "a-red-ball-bounces-on-the-grass-at-sunset-1.mp4"


def test_a_sheet_is_written_beside_the_video(tiny_folder, tmp_path):
    make(tiny_folder, output=tmp_path / "a.mp4", sheet=tmp_path / "a.png")
    assert video.read_image(tmp_path / "a.png").shape[1] > 6 * 32


def test_models_are_loaded_once(tiny_folder):
    assert path.load(str(tiny_folder), "cpu").bundle is path.load(str(tiny_folder), "cpu").bundle


def test_the_stored_dtype_does_not_decide_the_noise(tiny_folder, monkeypatch):
    """bfloat16 and float32 make the same video within rounding: the noise is drawn in float32 for both."""
    frames = {}
    for dtype in ("bfloat16", "float32"):
        chosen = plan_machine.Machine("cpu", dtype, 1e11, 10**12)
        monkeypatch.setattr(path, "choose_machine", lambda *_, chosen=chosen: chosen)
        frames[dtype] = make(tiny_folder).frames_THWC.astype(float)
    assert np.abs(frames["bfloat16"] - frames["float32"]).mean() < 6


# Section by section: what stops a run, and when.


def stops_before(monkeypatch, *steps):
    """Makes the named steps of the path fail the test if they are reached."""
    places = {"load": path.Engine, "denoise": stream}
    for step in steps:
        reached = f"{step} was reached"
        monkeypatch.setattr(places.get(step, path), step, lambda *_, reached=reached, **__: pytest.fail(reached))


def test_existing_files_stop_it_before_any_work(tiny_folder, tmp_path, monkeypatch):
    stops_before(monkeypatch, "choose_machine", "load")
    for field, name in (("output", "a.mp4"), ("sheet", "a.png")):
        (tmp_path / name).write_text("precious")
        with pytest.raises(errors.RequestError, match="exists and is kept"):
            make(tiny_folder, **{field: tmp_path / name})
        assert (tmp_path / name).read_text() == "precious"


def test_an_existing_file_is_replaced_when_told(tiny_folder, tmp_path):
    (tmp_path / "a.mp4").write_text("old")
    make(tiny_folder, output=tmp_path / "a.mp4", overwrite=True)
    assert video.read_video(tmp_path / "a.mp4").codec == "h264"


def test_a_folder_that_cannot_be_written_to_stops_it_before_any_work(tiny_folder, tmp_path, monkeypatch):
    stops_before(monkeypatch, "choose_machine", "load")
    with pytest.raises(errors.RequestError, match="does not exist"):
        make(tiny_folder, output=tmp_path / "nowhere" / "a.mp4")


def test_too_little_memory_stops_it_before_loading_and_says_what_fits(tiny_folder, monkeypatch):
    stops_before(monkeypatch, "load")
    chosen = plan_machine.Machine("cpu", "float32", 1e11, free_bytes=390_000_000)
    monkeypatch.setattr(path, "choose_machine", lambda *_: chosen)
    with pytest.raises(errors.CapacityError) as caught:
        make(tiny_folder, size="64x64", seconds=3, upscale=16)
    assert "is free" in caught.value.message and "--size" in str(caught.value.hint)
    assert caught.value.exit_code == 4


def test_no_more_memory_is_planned_with_than_is_free():
    machine = Machine("cpu", "float32", 1e11, free_bytes=8 * 10**9)
    assert pipeline.within(machine, "2GB").free_bytes == 2 * 10**9
    assert pipeline.within(machine, "200GB").free_bytes == 8 * 10**9
    assert pipeline.within(dataclasses.replace(machine, free_bytes=None), "2GB").free_bytes == 2 * 10**9


def test_memory_that_runs_out_all_the_same_is_a_capacity_error(tiny_folder, monkeypatch):
    def greedy(*args):
        torch.empty(2**60, dtype=torch.uint8)

    monkeypatch.setattr(stream, "denoise", greedy)
    with pytest.raises(errors.CapacityError, match="ran out"):
        make(tiny_folder)


def test_another_runtime_error_is_not_dressed_up(tiny_folder, monkeypatch):
    def broken(*args):
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(stream, "denoise", broken)
    with pytest.raises(RuntimeError, match="shapes differ"):
        make(tiny_folder)


def test_unknown_words_are_named_with_advice_and_punctuation_is_no_word(tiny_folder):
    notes = Notes()
    make(tiny_folder, "A red ball, on the Moon; a ZEPPELIN!", listener=notes)
    (note,) = [note for note in notes.notes if "does not know" in note]
    assert "'Moon'" in note and "'ZEPPELIN'" in note and "ball" not in note and "'!'" not in note and "';'" not in note
    assert "open preset" in note


@pytest.mark.parametrize("prompt", ["zeppelins everywhere", "飞艇", "!?!", "42"])
def test_a_prompt_of_which_no_word_is_known_is_refused(tiny_folder, monkeypatch, prompt):
    stops_before(monkeypatch, "denoise")
    with pytest.raises(errors.RequestError, match="knows no word"):
        make(tiny_folder, prompt)


def test_a_prompt_beyond_the_models_length_is_refused_not_cut(tiny_folder, monkeypatch):
    stops_before(monkeypatch, "denoise")
    with pytest.raises(errors.RequestError, match="513 tokens long; the model reads 512"):
        make(tiny_folder, "a " * 512)
    with pytest.raises(errors.RequestError, match="negative prompt is 601 tokens"):
        make(tiny_folder, negative_prompt="a " * 600)


@pytest.mark.parametrize("part", ["transformer", "vae", "text_encoder"])
def test_missing_weights_are_named(own_folder, part):
    (weights,) = (own_folder / part).glob("*.safetensors")
    weights.unlink()
    with pytest.raises(errors.CheckpointError, match=f"{part}.*is missing") as caught:
        make(own_folder)
    assert weights.name in caught.value.message


def test_a_missing_configuration_is_named(own_folder):
    (own_folder / "vae" / "config.json").unlink()
    with pytest.raises(errors.CheckpointError, match=r"vae/config\.json is missing"):
        make(own_folder)
    (own_folder / "vae" / "config.json").write_text("{")
    with pytest.raises(errors.CheckpointError, match=r"vae/config\.json"):
        make(own_folder)


def test_corrupt_weights_are_named(own_folder):
    weights = own_folder / "vae" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(errors.CheckpointError, match=r"vae/diffusion_pytorch_model\.safetensors is corrupt"):
        make(own_folder)


def test_weights_with_another_digest_are_refused_with_both_digests(own_folder, monkeypatch):
    stops_before(monkeypatch, "denoise")
    from sorano.models.checkpoint import write_digests

    write_digests(own_folder)
    make_pinned = make  # pinned and untouched: loads
    with pytest.raises(pytest.fail.Exception, match="denoise was reached"):
        make_pinned(own_folder)
    weights = own_folder / "transformer" / "diffusion_pytorch_model.safetensors"
    before = hashlib.sha256(weights.read_bytes()).hexdigest()
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    path.ENGINE.unload()
    with pytest.raises(errors.CheckpointError) as caught:
        make(own_folder)
    assert weights.name in caught.value.message and before in caught.value.message
    assert hashlib.sha256(data).hexdigest() in caught.value.message


def test_a_pickle_is_refused(own_folder):
    (weights,) = (own_folder / "transformer").glob("*.safetensors")
    weights.rename(weights.with_name("diffusion_pytorch_model.bin"))
    with pytest.raises(errors.CheckpointError, match=r"\.bin is a pickle"):
        make(own_folder)


def spoil(model, value):
    """The tiny VAE decoding to one value everywhere."""
    model.bundle.vae.decode = lambda latent_BCTHW: torch.full((1, 3, 9, 32, 32), value)


def test_decoding_in_chunks_gives_the_frames_of_decoding_at_once(tiny_folder, monkeypatch):
    whole = make(tiny_folder, seconds=3).frames_THWC
    for chunk in (1, 2, 3):
        notes = Notes()
        monkeypatch.setattr(pipeline, "decode_chunk", lambda shape, geometry, chunk=chunk: chunk)
        chunked = make(tiny_folder, seconds=3, listener=notes).frames_THWC
        assert chunked.shape == whole.shape == (25, 32, 32, 3)
        assert np.abs(chunked.astype(int) - whole).max() <= 2  # of 255, in bfloat16
        assert notes.progressed[-1] == ("decode", 7, 7)


@pytest.mark.parametrize(("value", "said"), [(float("nan"), "NaN"), (float("inf"), "NaN or infinity"), (-1.0, "black")])
def test_a_decoder_that_fails_stops_the_run_with_the_cause(own_folder, tmp_path, value, said):
    spoil(path.load(str(own_folder), "cpu"), value)
    with pytest.raises(errors.NumericsError, match=said):
        make(own_folder, output=tmp_path / "a.mp4")
    assert not (tmp_path / "a.mp4").exists()


def test_a_transformer_that_fails_stops_the_run_at_its_step(own_folder, tmp_path):
    model = path.load(str(own_folder), "cpu")
    with torch.no_grad():
        next(model.bundle.transformer.parameters()).fill_(float("nan"))
    with pytest.raises(errors.NumericsError, match="step 1 of 3"):
        make(own_folder, output=tmp_path / "a.mp4")
    assert not (tmp_path / "a.mp4").exists()


def test_a_file_that_reads_back_otherwise_is_an_error(tiny_folder, tmp_path, monkeypatch):
    from sorano.trust import media

    made = make(tiny_folder)
    real = media.chunks
    monkeypatch.setattr(media, "chunks", lambda *given: (chunk[:3] for chunk in real(*given)))
    with pytest.raises(errors.VideoError, match="3 frames of 32x32 instead of 9"):
        made.save(tmp_path / "a.mp4")
    assert not list(tmp_path.iterdir())


def test_a_device_that_is_not_there_is_refused_with_those_that_are(tiny_folder):
    with pytest.raises(errors.RequestError, match="no device 'cuda:77'.*\n.*cpu"):
        make(tiny_folder, device="cuda:77")


def test_a_lora_changes_the_video_and_leaves_the_model_as_it_was(tiny_folder, tmp_path):
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(0)
    layer = "transformer.blocks.0.attn2.to_out.0"
    tensors = {
        f"{layer}.lora_A.weight": torch.randn(2, 32, generator=generator),
        f"{layer}.lora_B.weight": torch.randn(32, 2, generator=generator),
    }
    file = tmp_path / "style.safetensors"
    save_file(tensors, file)
    before = make(tiny_folder)
    changed = make(tiny_folder, lora=[f"{file}:0.7"])
    assert not np.array_equal(changed.frames_THWC, before.frames_THWC)
    assert np.array_equal(make(tiny_folder).frames_THWC, before.frames_THWC)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert changed.record["loras"] == [{"scale": 0.7, "sha256": digest}]
    assert changed.record["request"]["lora"] == ["style.safetensors:0.7"] and "loras" not in before.record
    with pytest.raises(errors.RequestError, match=r"no LoRA file .*none\.safetensors"):
        make(tiny_folder, lora=[tmp_path / "none.safetensors"])


def test_a_prompt_is_encoded_once_while_the_model_is_loaded(tiny_folder, monkeypatch):
    from sorano.models.wan.text_encoder import TextEncoder

    calls, encode = [], TextEncoder.encode
    monkeypatch.setattr(
        TextEncoder, "encode", lambda self, ids, dtype=None: calls.append(ids) or encode(self, ids, dtype)
    )
    path.ENGINE.unload()
    first = make(tiny_folder)
    again = make(tiny_folder, seed=2)
    assert len(calls) == 1 and len(calls[0]) == 2  # both prompts together
    assert not np.array_equal(first.frames_THWC, again.frames_THWC)
    make(tiny_folder, prompt="a blue cube")
    make(tiny_folder, negative_prompt="night")
    assert len(calls) == 3


def test_a_scheduler_that_is_not_known_is_said_before_weights_are_read(own_folder, monkeypatch):
    file = own_folder / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "use_karras_sigmas": True}))
    monkeypatch.setattr(checkpoint, "fill", lambda *_: pytest.fail("weights were read"))
    with pytest.raises(errors.CheckpointError, match=r"scheduler_config.json: .*use_karras_sigmas"):
        make(own_folder)


def test_float32_is_taken_where_it_is_asked_for(tiny_folder):
    made = make(tiny_folder, dtype="float32")
    assert made.record["machine"]["dtype"] == "float32" and made.request.dtype == "float32"
    with pytest.raises(errors.RequestError, match="bfloat16"):
        Request(prompt="a red ball", dtype="float8")
