"""The ladder of memory: what is said to fit fits, and every rung gives the same video."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch

from sorano.engine import generate
from sorano.errors import CapacityError, RequestError
from sorano.models import checkpoint
from sorano.plan import Machine, Placement, estimate_generate
from sorano.plan.memory import MemoryNeeds, choose, ladder, stage_bytes
from sorano.presets import PRESETS
from sorano.request import Request, parse_bytes
from sorano.shapes import VideoShape

GPU = Machine("cuda:0", "bfloat16", 5e14, free_bytes=None)
LARGE = VideoShape(81, 720, 1280)
PROMPT = "a red ball bounces on the grass"


def configs(name):
    return PRESETS[name].read_configs()


@pytest.mark.parametrize("name", ["wan2.1-t2v-14b", "wan2.2-t2v-a14b", "wan2.1-i2v-14b-720p", "wan2.2-ti2v-5b"])
def test_each_rung_needs_no_more_than_the_one_before(name):
    shape = VideoShape(121, 704, 1280) if "5b" in name else LARGE
    job = MemoryNeeds(shape, branches=2, text_tokens=64, has_pictures="i2v" in name)
    peaks = [
        max(stage_bytes(configs(name), GPU, job, placement).values())
        for placement in ladder(shape, configs(name).geometry, on_cpu=False)
    ]
    assert len(peaks) >= 3 and peaks == sorted(peaks, reverse=True)
    assert peaks[-1] < 0.75 * peaks[0]


def test_the_first_rung_that_fits_is_taken():
    job = MemoryNeeds(LARGE, branches=1, text_tokens=64)
    wan = configs("wan2.1-t2v-14b")
    taken = [choose(wan, GPU, job, gigabytes * 10**9)[0] for gigabytes in (100, 50, 20, 1)]
    assert [placement.in_turn for placement in taken] == [False, True, True, True]
    assert [placement.offload for placement in taken] == [False, False, True, True]
    assert taken[-1].tile == 256  # the last rung, although it does not fit: the plan says so


def test_a_plan_within_a_budget_says_the_rung_and_one_beyond_it_refuses():
    wan = configs("wan2.1-t2v-1.3b")
    shape = VideoShape(81, 480, 832)
    roomy = estimate_generate(wan, replace(GPU, free_bytes=80 * 10**9), shape, num_steps=50)
    tight = estimate_generate(wan, replace(GPU, free_bytes=14 * 10**9), shape, num_steps=50)
    assert not roomy.placement.in_turn and tight.placement.in_turn and tight.fits
    assert tight.peak_bytes == max(tight.stage_bytes.values()) < roomy.peak_bytes
    with pytest.raises(CapacityError):
        estimate_generate(wan, replace(GPU, free_bytes=2 * 10**9), shape, num_steps=50).require()


def test_a_small_network_fits_where_its_text_encoder_does_not():
    wan, shape = configs("wan2.1-t2v-1.3b"), VideoShape(81, 480, 832)
    estimate = estimate_generate(wan, replace(GPU, free_bytes=8 * 10**9), shape, num_steps=50)
    assert estimate.fits and estimate.placement.text_on_host and not estimate.placement.offload
    assert "text encoded on the CPU" in estimate.placement.words
    assert wan.text_encoder.weight_bytes(2) < estimate.host_bytes < 1.1 * wan.text_encoder.weight_bytes(2)


def test_a_film_is_never_planned_in_tiles_for_it_is_decoded_as_a_stream():
    wan, shape = configs("wan2.1-t2v-1.3b"), VideoShape(81, 480, 832)
    small = replace(GPU, free_bytes=10**8)
    assert estimate_generate(wan, small, shape, num_steps=50).placement.tile == 256
    film = estimate_generate(wan, small, shape, num_steps=50, is_film=True)
    assert film.placement.tile is None and film.placement.offload


def test_main_memory_beside_the_device_must_be_enough_too():
    wan, shape = configs("wan2.1-t2v-14b"), VideoShape(81, 480, 832)
    machine = replace(GPU, free_bytes=24 * 10**9, host_free_bytes=64 * 10**9)
    visited = estimate_generate(wan, machine, shape, num_steps=50)
    assert visited.placement.offload and visited.host_bytes > wan.transformer.weight_bytes(2)
    with pytest.raises(CapacityError, match="main memory"):
        estimate_generate(wan, replace(machine, host_free_bytes=16 * 10**9), shape, num_steps=50).require()
    roomy = estimate_generate(wan, replace(machine, free_bytes=80 * 10**9), shape, num_steps=50)
    assert roomy.host_bytes < 10**9


def test_the_text_encoder_may_compute_on_the_cpu(tmp_path):
    checkpoint.save(tmp_path / "model", tiny.bundle())
    bundle = checkpoint.load(tmp_path / "model", filled=False, device="meta")
    with bundle.present("text_encoder", text_on_host=True):
        assert next(bundle.text_encoder.parameters()).device.type == "cpu"


@pytest.mark.parametrize(("text", "count"), [("12GB", 12 * 10**9), ("800 mb", 8 * 10**8), ("1.5GiB", 1.5 * 2**30)])
def test_memory_is_read_as_people_write_it(text, count):
    assert parse_bytes(text) == count


@pytest.mark.parametrize("text", ["", "much", "-1GB", "0", "12 parsecs"])
def test_other_amounts_are_refused(text):
    with pytest.raises(RequestError, match="12GB"):
        Request(prompt=PROMPT, memory=text)


def test_networks_come_for_their_turn_and_leave(tmp_path):
    checkpoint.save(tmp_path / "model", tiny.bundle())
    bundle = checkpoint.load(tmp_path / "model", filled=False)
    whole = checkpoint.load(tmp_path / "model")
    assert all(checkpoint.is_empty(network) for network in (bundle.transformer, bundle.vae, bundle.text_encoder))
    ids = bundle.tokenizer.encode(["a red ball"])
    with bundle.present("text_encoder"):
        assert torch.equal(bundle.text_encoder.encode(ids).text_BSD, whole.text_encoder.encode(ids).text_BSD)
        assert checkpoint.is_empty(bundle.transformer)
    assert checkpoint.is_empty(bundle.text_encoder)
    for _ in range(2):  # and come again
        with bundle.present("vae"):
            assert torch.equal(bundle.vae.decode(tiny.latent(1)), whole.vae.decode(tiny.latent(1)))


@pytest.mark.parametrize("offload", [False, True])
def test_a_transformer_on_a_visit_computes_the_same(tmp_path, offload):
    checkpoint.save(tmp_path / "model", tiny.bundle())
    bundle = checkpoint.load(tmp_path / "model", filled=False)
    inputs = tiny.latent(1), torch.tensor([500.0]), tiny.text((5,))
    with torch.no_grad(), bundle.present("transformer", offload=offload):
        made = bundle.transformer(*inputs)
        expected = tiny.transformer()(*inputs)
    assert torch.equal(made, expected) and checkpoint.is_empty(bundle.transformer)


def test_a_failure_in_a_turn_leaves_no_weights_behind(tmp_path):
    checkpoint.save(tmp_path / "model", tiny.bundle())
    bundle = checkpoint.load(tmp_path / "model", filled=False)
    with pytest.raises(KeyError), bundle.present("vae", "text_encoder"):
        raise KeyError
    assert checkpoint.is_empty(bundle.vae) and checkpoint.is_empty(bundle.text_encoder)


def test_every_rung_gives_the_same_frames(tiny_folder, monkeypatch):
    from sorano import plan
    from sorano.plan import generate as plan_generate

    request = Request(prompt=PROMPT, preset=str(tiny_folder), seed=3, size="64x64", device="cpu")
    whole, made = generate(request).frames_THWC.astype(int), []
    rungs = (Placement(1), Placement(1, in_turn=True), Placement(1, in_turn=True, offload=True))
    for placement in (*rungs, Placement(1, in_turn=True, text_on_host=True)):
        monkeypatch.setattr(plan_generate, "choose", lambda *_, placement=placement: (placement, {"denoise": 1}))
        made.append(generate(request).frames_THWC)
        assert np.array_equal(made[-1], made[0]), placement
    # a convolution's kernel, and so its rounding in bfloat16, may depend on how many frames it is given
    assert np.abs(made[0] - whole).max() <= 2
    assert plan.Placement is Placement


def test_encoding_in_chunks_equals_encoding_whole():
    vae = tiny.vae()
    video = torch.rand(1, 3, 17, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    whole = vae.encode_latent(video)
    for chunk in (1, 2, 3, 5, 9):
        assert tiny.error(vae.encode_in_chunks(video, chunk), whole) < 1e-5


def test_the_frames_of_the_file_are_counted_however_small_the_model_makes_them():
    world, shape = configs("world"), VideoShape(17, 64, 96)
    cpu = Machine("cpu", "bfloat16", 1e11, free_bytes=None)
    small, large = (estimate_generate(world, cpu, shape, num_steps=1, upscale=up) for up in (3, 18))
    pixels = 64 * 96 * 18**2
    assert large.peak_bytes - small.peak_bytes > 0.8 * pixels * (47 + 6.6 * 17)
    assert estimate_generate(world, cpu, shape, num_steps=1, upscale=18, is_written=False).peak_bytes < large.peak_bytes
    tight = replace(cpu, free_bytes=600 * 10**6)
    assert not estimate_generate(world, tight, shape, num_steps=1, upscale=18).fits


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is read as Linux counts it")
@pytest.mark.parametrize("words", [("--size", "1080p"), ("--size", "128x128", "--seconds", "4", "--memory", "600MB")])
def test_a_run_takes_what_was_planned(tmp_path, words):
    command = [sys.executable, "-m", "sorano", "generate", PROMPT, "--num-steps", "1", "--seed", "1", "--json", "-q"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "-o", str(tmp_path / "a.mp4"), *words], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert 0.85 < made["measured"]["peak_bytes"] / made["planned"]["peak_bytes"] < 1.15
