"""What the tests share: a clean environment, and a model folder of tiny networks with random weights."""

import json
import os
from pathlib import Path

import pytest
from support.counts import FULL
from support.scheduling import give_up_real_time

from sorano import video

TINY_WORDS = (
    "a an the red blue green ball cube cylinder small large bounces rolls spins on at in grass sand snow stone dawn "
    "noon sunset night left right of , . 一 个 红 蓝 色 的 球 在 草 地 上"
).split()


def pytest_configure():
    """Before anything encodes AV1, and in each process of pytest-xdist."""
    give_up_real_time()


def pytest_collection_modifyitems(items):
    """Tests marked `full` run only where scripts/check asks for the full counts, `posix` ones not on Windows."""
    for item in items:
        if "full" in item.keywords and not FULL:
            item.add_marker(pytest.mark.skip(reason="the full counts: SORANO_FULL=1"))
        if "posix" in item.keywords and os.name != "posix":
            item.add_marker(pytest.mark.skip(reason="signals and limits of POSIX"))


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch, tmp_path_factory):
    """Nothing of the user's settings reaches a test, and a test's timings do not reach the user."""
    for name in [name for name in os.environ if name.startswith("SORANO_") and name != "SORANO_FULL"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SORANO_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.setenv("SORANO_CONFIG", str(tmp_path_factory.getbasetemp() / "config"))  # keys, made once for all
    monkeypatch.setenv("SORANO_STORE", str(tmp_path_factory.getbasetemp() / "store"))
    monkeypatch.setenv("SORANO_LIBRARY", str(tmp_path_factory.getbasetemp() / "library"))
    monkeypatch.setenv("SORANO_LOOK_SECONDS", "60")  # a busy machine is not a hostile file
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")


@pytest.fixture
def steady_coder(monkeypatch):
    """Equal frames give an equal file: x264's macroblock tree reads what it has not written, one run in twenty."""
    monkeypatch.setitem(video.CODER, "x264-params", "mbtree=0")


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory) -> Path:
    """A diffusers folder like the embedded model's, with tiny random networks and a small vocabulary."""
    import torch

    from sorano.models import checkpoint
    from sorano.models.wan.config import TextEncoderConfig, TransformerConfig, VaeConfig
    from sorano.models.wan.text_encoder import TextEncoder, build_tokenizer
    from sorano.models.wan.transformer import VideoTransformer
    from sorano.models.wan.vae import VideoAutoencoder
    from sorano.sampling.schedule import scheduler_config

    torch.manual_seed(0)
    tokenizer = build_tokenizer(TINY_WORDS)
    text = TextEncoderConfig(vocab_size=len(tokenizer), d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    transformer = TransformerConfig(num_attention_heads=2, attention_head_dim=16, text_dim=16, ffn_dim=48, num_layers=2)
    vae = VaeConfig(
        base_dim=8,
        dim_mult=(1, 2, 2),
        num_res_blocks=1,
        temperal_downsample=(True, True),
        is_residual=True,
        patch_size=2,
        in_channels=12,
        out_channels=12,
    )
    network = VideoTransformer(transformer)
    for parameter in network.parameters():  # it begins at zero velocity; give it one
        torch.nn.init.normal_(parameter, std=0.05)
    folder = tmp_path_factory.mktemp("models") / "tiny"
    parts = (network, VideoAutoencoder(vae), TextEncoder(text), tokenizer, scheduler_config(3.0))
    checkpoint.save(folder, checkpoint.Bundle(*parts, expand_timesteps=True))
    card = {"size": "32x32", "num_frames": 9, "fps": 8, "max_num_frames": 25, "max_side": 64}
    card |= {"small_vocabulary": True, "num_steps": 3, "guidance": 3.0}
    (folder / "sorano.json").write_text(json.dumps(card))
    return folder


@pytest.fixture(scope="session")
def tiny_verbs(tiny_folder, tmp_path_factory) -> Path:
    """The same networks with a card that says they take every kind of known latents."""
    import shutil

    from sorano.presets import ALL_KINDS

    folder = tmp_path_factory.mktemp("models") / "verbs"
    shutil.copytree(tiny_folder, folder)
    card = json.loads((folder / "sorano.json").read_text())
    (folder / "sorano.json").write_text(json.dumps(card | {"known": list(ALL_KINDS), "small_vocabulary": False}))
    return folder


@pytest.fixture(scope="session")
def tiny_graphs(tiny_folder, tmp_path_factory) -> Path:
    """The tiny networks as ONNX graphs in float32, said to take every kind of known latents."""
    from dataclasses import replace

    pytest.importorskip("onnxscript")
    from sorano.export.graphs import export_onnx
    from sorano.presets import ALL_KINDS, preset_of_folder

    folder = tmp_path_factory.mktemp("models") / "graphs"
    export_onnx(replace(preset_of_folder(tiny_folder), known=ALL_KINDS), folder)
    return folder


@pytest.fixture(scope="module")
def chrome():
    """A headless Chromium; not for the session, since nothing asynchronous runs beside Playwright."""
    from support import browser

    with browser.browser() as found:
        yield found


@pytest.fixture(scope="session")
def postgres_url():
    """The URL of a PostgreSQL of the tests' own; None where there is none to be had."""
    from support import serving

    with serving.postgres() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request, tmp_path):
    """The URL of an empty database of the server, of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'jobs.sqlite3'}"
    url = request.getfixturevalue("postgres_url")
    if url is None:
        pytest.skip("neither pgserver nor Debian's postgresql is here")
    from support import serving

    serving.empty(url)
    return url
