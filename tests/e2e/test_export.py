"""ONNX graphs of a model, and the runner of them, beside the engine."""

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from support.counts import FULL
from support.exported import PROMPT, engine_clip, psnr

from sorano.errors import CheckpointError, RequestError
from sorano.files import canonical, sha256
from sorano.presets import WEIGHTS, find_preset, preset_of_folder

pytest.importorskip("onnxscript")

MOST_LATENT = 2e-5  # of latents whose numbers reach 8: float32 sums in another order, over all steps
LEAST_PSNR = 60.0  # of frames: a level of 255 here and there


@pytest.fixture(scope="module")
def runner(tiny_graphs):
    from sorano.export.run import Runner

    return Runner(tiny_graphs)


def test_the_same_seed_gives_the_engines_latents_and_frames(runner, tiny_folder):
    for seed in (0, 5, 2**40 + 7):
        latent, frames = engine_clip(tiny_folder, seed, 4)
        clip = runner.generate(PROMPT, seed=seed, num_steps=4)
        assert np.abs(clip.latent_CTHW - latent).max() < MOST_LATENT
        assert psnr(clip.frames_THWC, frames) > LEAST_PSNR


def test_other_seeds_and_prompts_give_other_latents(runner):
    one = runner.generate(PROMPT, seed=1, num_steps=2).latent_CTHW
    assert np.abs(runner.generate(PROMPT, seed=2, num_steps=2).latent_CTHW - one).max() > 0.1
    assert np.abs(runner.generate("the blue cube", seed=1, num_steps=2).latent_CTHW - one).max() > 1e-4


@pytest.mark.parametrize("count", [1, 5])
def test_the_frames_that_a_clip_begins_with_are_known_as_in_the_engine(runner, tiny_folder, count):
    given = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    latent, frames = engine_clip(tiny_folder, 3, 4, given)
    clip = runner.generate(PROMPT, seed=3, num_steps=4, given=given)
    assert np.abs(clip.latent_CTHW - latent).max() < MOST_LATENT
    assert psnr(clip.frames_THWC, frames) > LEAST_PSNR


@pytest.mark.parametrize(
    ("count", "side", "said"), [(1, 16, "the graph takes"), (2, 32, "begin with 2"), (9, 32, "with 9")]
)
def test_frames_of_another_size_or_number_are_refused(runner, count, side, said):
    with pytest.raises(RequestError, match=said):
        runner.generate(PROMPT, seed=1, given=np.zeros((count, side, side, 3), np.uint8))


def test_frames_that_the_model_was_not_trained_to_begin_with_are_refused(tiny_graphs, tmp_path):
    from sorano.export.run import Runner

    folder = tmp_path / "model"
    shutil.copytree(tiny_graphs, folder)
    card = json.loads((folder / "model.json").read_text())
    for known, count, said in ((["first"], 5, "frames of a video"), (["prefix"], 1, "a picture")):
        (folder / "model.json").write_text(json.dumps({**card, "known": known}))
        with pytest.raises(RequestError, match=f"does not begin with {said}"):
            Runner(folder).generate(PROMPT, seed=1, given=np.zeros((count, 32, 32, 3), np.uint8))


def test_a_prompt_beyond_the_graphs_width_is_refused_in_words(runner):
    with pytest.raises(RequestError, match="the graphs read 63"):
        runner.generate("red ball " * 40, seed=1)


@pytest.mark.parametrize("graph", ["decoder", "transformer"])
def test_a_changed_graph_is_found_by_its_digest_before_it_runs(tiny_graphs, tmp_path, graph):
    from sorano.export.run import Runner

    folder = tmp_path / "model"
    shutil.copytree(tiny_graphs, folder)
    data = bytearray((folder / f"{graph}.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / f"{graph}.onnx").write_bytes(data)
    with pytest.raises(CheckpointError, match=rf"{graph}\.onnx is not the file that was exported"):
        Runner(folder)
    (folder / f"{graph}.onnx").unlink()
    with pytest.raises(CheckpointError, match="is missing"):
        Runner(folder)


def test_a_card_cannot_name_files_elsewhere(tiny_graphs, tmp_path):
    from sorano.export.graphs import read_card

    folder = tmp_path / "model"
    shutil.copytree(tiny_graphs, folder)
    card = json.loads((folder / "model.json").read_text())
    card["files"]["../secret"] = card["files"]["decoder.onnx"]
    (folder / "model.json").write_text(json.dumps(card))
    with pytest.raises(CheckpointError, match="secret"):
        read_card(folder)


def test_the_card_names_the_weights_of_a_folder_of_the_users_own(tiny_graphs, tiny_folder):
    from sorano.export.graphs import read_card

    card = read_card(tiny_graphs)
    assert card["output"] == {"width": 256, "height": 256} and card["shapes"]["temporal"] == 4
    assert {name: sha256(tiny_folder / name) for name in card["weights"]} == card["weights"] != {}
    assert card["weights_sha256"] == hashlib.sha256(canonical(card["weights"])).hexdigest()
    assert card["weights_sha256"] != hashlib.sha256(b"{}").hexdigest()


def test_eight_bits_are_smaller_and_near(runner, tiny_graphs):
    import onnx
    import onnxruntime

    from sorano.export.quantize import ways

    def made(name, inputs):
        graph = tiny_graphs / f"{name}.onnx"
        small = ways[name](onnx.load(graph)).SerializeToString()
        assert len(small) < graph.stat().st_size
        session = onnxruntime.InferenceSession(small, providers=["CPUExecutionProvider"])
        whole, [near] = runner.sessions[name](inputs), session.run(None, inputs)
        return np.abs(whole - near).max() / np.abs(whole).max()

    latent = runner.noise(1)
    assert made("decoder", {"latent": latent[None]}) < 0.05
    ids = np.arange(64) % 40
    assert made("text_encoder", {"ids": ids, "real": np.ones(64, np.float32)}) < 0.005


def test_models_of_another_kind_are_refused():
    from sorano.export.graphs import export_onnx

    with pytest.raises(RequestError, match="is not here"):
        export_onnx(find_preset("wan2.1-t2v-1.3b"), Path("nowhere"))
    with pytest.raises(RequestError, match="precision"):
        export_onnx(find_preset("world"), Path("nowhere"), precision="int3")


def test_a_package_of_npm_is_taken_by_its_digest_alone(tmp_path):
    from sorano.export.runtimes import PACKAGES, put_runtimes

    with pytest.raises(RequestError, match=f"{PACKAGES[0].archive} is not there") as missing:
        put_runtimes(tmp_path / "out", tmp_path)
    assert f"npm pack {PACKAGES[0].name}@{PACKAGES[0].version}" in missing.value.hint
    (tmp_path / PACKAGES[0].archive).write_bytes(b"something else")
    with pytest.raises(RequestError, match="its SHA-512 differs"):
        put_runtimes(tmp_path / "out", tmp_path)
    assert not list((tmp_path / "out").rglob("*.wasm"))


def test_without_npm_the_next_step_is_named(tmp_path, monkeypatch):
    from sorano.export.runtimes import put_runtimes

    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("SORANO_CACHE", str(tmp_path / "cache"))
    with pytest.raises(RequestError, match="no npm") as missing:
        put_runtimes(tmp_path / "out")
    assert "--runtime" in missing.value.hint


def test_a_model_of_another_kind_is_refused_before_runtimes_are_fetched(tmp_path):
    from sorano.export.site import export_web

    with pytest.raises(RequestError, match="is not here"):
        export_web(find_preset("wan2.1-t2v-1.3b"), tmp_path / "site", runtime=tmp_path)


def test_a_folder_of_other_files_is_left_alone(tmp_path):
    from sorano.export.site import export_web

    (tmp_path / "thesis.txt").write_text("words")
    with pytest.raises(RequestError, match="holds other files"):
        export_web(find_preset("world"), tmp_path)
    assert [one.name for one in tmp_path.iterdir()] == ["thesis.txt"]


def test_the_command_says_what_it_lacks_in_two_lines(tiny_folder, tiny_graphs, tmp_path):
    import sys

    command = [sys.executable, "-m", "sorano", "export", "web", str(tmp_path / "site"), "--runtime", str(tmp_path)]
    command += ["--preset", str(tiny_folder), "--graphs", str(tiny_graphs)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and not done.stdout
    assert "onnxruntime-web" in done.stderr and "npm pack" in done.stderr


@pytest.mark.full
def test_the_embedded_model_is_the_engines_in_onnx_runtime(tmp_path):
    from sorano.export.graphs import GRAPHS, export_onnx
    from sorano.export.run import Runner

    assert FULL
    seeds, preset = (5, 6, 7), find_preset("world")
    clips = {seed: engine_clip(WEIGHTS / "world", seed, preset.num_steps) for seed in seeds}
    for precision, most_bytes, most, least in (("float32", 7e7, 1e-3, 60.0), ("int8", 2e7, None, 28.0)):
        folder = tmp_path / precision
        export_onnx(preset, folder, precision=precision)
        assert sum((folder / f"{name}.onnx").stat().st_size for name in GRAPHS) <= most_bytes
        runner = Runner(folder)
        for seed, (latent, frames) in clips.items():
            clip = runner.generate(PROMPT, seed=seed)
            assert psnr(clip.frames_THWC, frames) > least
            assert most is None or np.abs(clip.latent_CTHW - latent).max() < most


def test_without_executorch_the_command_that_installs_it_is_named(tiny_graphs, tmp_path, monkeypatch):
    from sorano import extras
    from sorano.export.executorch import export_executorch
    from sorano.export.run import Runner

    installed = extras.is_installed
    monkeypatch.setattr(extras, "is_installed", lambda name: name != "executorch" and installed(name))
    with pytest.raises(RequestError, match="exporting for ExecuTorch needs executorch") as missing:
        export_executorch(find_preset("world"), tmp_path / "model")
    assert missing.value.hint == "pip install 'sorano[executorch]'" and not (tmp_path / "model").exists()
    folder = as_programs(tiny_graphs, tmp_path / "programs")
    with pytest.raises(RequestError, match="running ExecuTorch programs needs executorch"):
        Runner(folder)


def as_programs(graphs, folder):
    """A folder of graphs that says it is of ExecuTorch's programs."""
    shutil.copytree(graphs, folder)
    card = json.loads((folder / "model.json").read_text())
    card["files"] = {name.replace(".onnx", ".pte"): words for name, words in card["files"].items()}
    for file in folder.glob("*.onnx"):
        file.rename(file.with_suffix(".pte"))
    (folder / "model.json").write_text(json.dumps({**card, "runtime": "executorch"}))
    return folder


def test_programs_of_executorch_are_no_graphs_for_the_page(tiny_folder, tiny_graphs, tmp_path):
    from sorano.export.site import export_web

    folder = as_programs(tiny_graphs, tmp_path / "programs")
    with pytest.raises(RequestError, match="holds no ONNX graphs"):
        export_web(preset_of_folder(tiny_folder), tmp_path / "site", graphs=folder)


def test_convolutions_over_space_sum_to_those_over_time():
    import torch
    import torch.nn.functional as F

    from sorano.export.executorch import _conv3d, _gelu

    generator = torch.Generator().manual_seed(0)
    video, weight, bias = (torch.randn(*s, generator=generator) for s in ((1, 4, 9, 6, 6), (5, 4, 3, 3, 3), (5,)))
    for stride in ((1, 1, 1), (2, 1, 1)):
        wanted = F.conv3d(video, weight, bias, stride, (0, 1, 1))
        assert torch.allclose(_conv3d(video, weight, bias, stride, (0, 1, 1)), wanted, atol=1e-4)
    assert torch.allclose(_gelu(video, "tanh"), F.gelu(video, approximate="tanh"), atol=1e-6)


def test_convolutions_in_tiles_are_convolutions(monkeypatch):
    import torch
    import torch.nn.functional as F

    from sorano.export import networks

    monkeypatch.setattr(networks, "WINOGRAD_NUMBERS", 5000)  # some frames at a time
    generator = torch.Generator().manual_seed(0)
    video, weight, bias = (
        torch.randn(*shape, generator=generator) for shape in ((1, 8, 7, 8, 12), (6, 8, 3, 3, 3), (6,))
    )
    wanted = F.conv3d(F.pad(video, (0, 0, 0, 0, 2, 0)), weight, bias, padding=(0, 1, 1))
    assert torch.allclose(networks._winograd(video, weight, bias), wanted, atol=5e-4)  # of numbers up to 60
    enlarged = F.interpolate(video[0].transpose(0, 1), scale_factor=2.0, mode="nearest")
    wanted = F.conv2d(enlarged, weight[:, :, 0], bias, padding=1).transpose(0, 1)[None]
    assert torch.allclose(networks._winograd(video, weight[:, :, :1], bias, doubled=True), wanted, atol=5e-4)
