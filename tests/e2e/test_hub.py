"""Open weights from a stand-in for the hub: fetched, resumed, refused, listed, removed."""

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import constants, hf_hub_download, snapshot_download
from huggingface_hub.utils import close_session
from support import hub_stand_in
from support.hub_stand_in import COMMIT, Fault
from typer.testing import CliRunner

import sorano
from sorano import cli, fetch, hub
from sorano.errors import CapacityError, CheckpointError, RequestError
from sorano.models.wan.config import TextEncoderConfig, TransformerConfig, VaeConfig
from sorano.models.wan.configs import ModelConfigs
from sorano.plan.generate import format_bytes
from sorano.presets import PRESETS
from sorano.sampling.schedule import scheduler_config

REPO = "tiny-org/toy-video"
VAE = "vae/diffusion_pytorch_model.safetensors"
SCHEDULER = "scheduler/scheduler_config.json"
SIZE = 300_000  # bytes of the VAE


def noise(count, seed):
    return random.Random(seed).randbytes(count)


def as_json(value):
    return json.dumps(value).encode()


TRANSFORMER = TransformerConfig(num_attention_heads=2, attention_head_dim=16, text_dim=16, ffn_dim=48, num_layers=2)
TEXT = TextEncoderConfig(vocab_size=40, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
CONFIGS = ModelConfigs(TRANSFORMER, VaeConfig(), TEXT)
SHARDS = [f"diffusion_pytorch_model-0000{part}-of-00002.safetensors" for part in (1, 2)]
NEEDED = {
    "model_index.json": as_json({"_class_name": "WanPipeline", "transformer": ["diffusers", "WanTransformer3DModel"]}),
    SCHEDULER: as_json(scheduler_config(3.0)),
    "text_encoder/config.json": as_json(TEXT.to_dict()),
    "text_encoder/model.safetensors": noise(50_000, 1),
    "tokenizer/spiece.model": noise(9_000, 2),
    "tokenizer/tokenizer.json": as_json({"model": {"vocab": ["a"] * 999}}),
    "transformer/config.json": as_json(TRANSFORMER.to_dict()),
    f"transformer/{SHARDS[0]}": noise(70_000, 3),
    f"transformer/{SHARDS[1]}": noise(60_000, 4),
    "transformer/diffusion_pytorch_model.safetensors.index.json": as_json({"weight_map": {"a": SHARDS[0]}}),
    "vae/config.json": as_json(VaeConfig().to_dict()),
    VAE: noise(SIZE, 5),
}
OTHERS = {"README.md": b"# Toy", "assets/demo.mp4": noise(999, 6), "text_encoder/pytorch_model.bin": noise(50_000, 7)}
TOTAL = sum(map(len, NEEDED.values()))


@pytest.fixture
def server(monkeypatch, tmp_path):
    """The stand-in, with a repository and a preset of it, and huggingface_hub told to ask there and nowhere else."""
    for name in [name for name in os.environ if name.startswith(("HF_", "HUGGING_FACE"))]:
        monkeypatch.delenv(name)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1,localhost")
    with hub_stand_in.serving() as server:
        server.repos[REPO] = {**NEEDED, **OTHERS}
        use_endpoint(monkeypatch, server.url)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
        monkeypatch.setattr(fetch, "RETRY_SECONDS", 0.0)
        for name in [name for name in PRESETS if name != "world"]:
            monkeypatch.delitem(PRESETS, name)
        toy = replace(PRESETS["world"], name="toy", repo=REPO, folder=None, licence="MIT", configs=CONFIGS)
        monkeypatch.setitem(PRESETS, "toy", toy)
        close_session()
        yield server
        close_session()


def use_endpoint(monkeypatch, url):
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")


def files_of(folder):
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}


def blob_of(folder, name):
    return (folder / name).resolve()


def run(*words):
    return CliRunner().invoke(cli.app, list(words))


def test_a_pull_takes_what_a_diffusers_folder_needs_and_keeps_its_digests(server):
    steps, said = [], []
    folder = hub.pull("toy", progress=lambda *step: steps.append(step), say=said.append)
    assert folder.name == COMMIT
    assert {name: path.read_bytes() for name, path in files_of(folder).items()} == NEEDED
    assert server.fetched() == set(NEEDED)
    assert hub.digests(folder) == {name: hashlib.sha256(content).hexdigest() for name, content in NEEDED.items()}
    assert steps[-1] == ("fetch", TOTAL, TOTAL)
    assert said[0].startswith(f"toy: fetching {TOTAL / 1e6:.0f} MB of {REPO}; ")
    hub.check_files(folder)


def test_a_second_pull_downloads_nothing(server):
    folder = hub.pull("toy")
    server.seen.clear()
    assert hub.pull(REPO) == folder
    assert [seen.name for seen in server.seen] == ["api"]


def test_what_was_pulled_works_offline(server, monkeypatch):
    assert hub.find(PRESETS["toy"]) is None
    with pytest.raises(CheckpointError) as caught:
        hub.located(PRESETS["toy"])
    size = format_bytes(4 * CONFIGS.parameters())
    assert (caught.value.message, caught.value.hint) == (
        "toy is not on this machine",
        f"sorano pull toy (up to {size})",
    )
    folder = hub.pull("toy")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    server.seen.clear()
    said = []
    assert hub.located(PRESETS["toy"]).folder == hub.pull("toy", say=said.append) == folder
    assert "HF_HUB_OFFLINE is set" in said[0] and "the copy on this machine is used" in said[0]
    assert server.seen == []


def test_huggingface_hub_finds_what_was_pulled(server):
    folder = hub.pull("toy")
    assert Path(snapshot_download(REPO, local_files_only=True)) == folder.resolve()
    server.seen.clear()
    assert Path(hf_hub_download(REPO, VAE, endpoint=server.url)).read_bytes() == NEEDED[VAE]
    assert not server.requests(VAE)


def test_what_huggingface_hub_fetched_is_checked_and_not_fetched_again(server):
    hf_hub_download(REPO, VAE, endpoint=server.url)
    server.seen.clear()
    hub.pull("toy")
    assert server.fetched() == set(NEEDED) - {VAE}


def test_without_symbolic_links_the_files_lie_in_the_folder(server, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_SYMLINKS", True)
    folder = hub.pull("toy")
    assert not any(path.is_symlink() for path in folder.rglob("*"))
    server.seen.clear()
    hub.pull("toy", check=True)
    assert server.fetched() == set()


def test_a_dropped_connection_goes_on_where_it_was(server):
    server.faults[VAE] = [Fault(drop_after=100_000), Fault(drop_after=50_000)]
    folder = hub.pull("toy")
    assert [seen.range for seen in server.requests(VAE)] == [None, "bytes=100000-", "bytes=150000-"]
    assert (folder / VAE).read_bytes() == NEEDED[VAE]


def test_after_too_many_failures_the_next_pull_goes_on_where_it_was(server):
    server.faults[VAE] = [Fault(drop_after=100_000), *[Fault(drop_after=0)] * (fetch.RETRIES + 1)]
    with pytest.raises(CheckpointError) as caught:
        hub.pull("toy")
    assert caught.value.message.startswith(f"the connection to {server.url} failed")
    assert caught.value.hint == "sorano pull toy goes on where it was"
    assert hub.find(PRESETS["toy"]) is None
    server.seen.clear()
    folder = hub.pull("toy")
    assert [seen.range for seen in server.requests(VAE)] == ["bytes=100000-"]
    assert (folder / VAE).read_bytes() == NEEDED[VAE]


def test_an_interrupted_pull_goes_on_where_it_was(server):
    def interrupt(stage, done, total):
        if done > TOTAL - SIZE:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hub.pull("toy", progress=interrupt)
    partial = sum(path.stat().st_size for path in hub.home_of(REPO).glob("blobs/*.incomplete"))
    assert 0 < partial
    server.seen.clear()
    folder = hub.pull("toy")
    assert any(seen.range for seen in server.seen)
    assert {name: path.read_bytes() for name, path in files_of(folder).items()} == NEEDED


def test_a_server_that_knows_no_ranges_sends_it_again(server):
    server.faults[VAE] = [Fault(drop_after=100_000), Fault(whole=True)]
    steps = []
    folder = hub.pull("toy", progress=lambda *step: steps.append(step))
    assert (folder / VAE).read_bytes() == NEEDED[VAE]
    assert steps[-1] == ("fetch", TOTAL, TOTAL)


@pytest.mark.parametrize("name", [VAE, "vae/config.json"])
def test_a_wrong_byte_is_refused_and_a_second_pull_mends_it(server, name):
    server.faults[name] = [Fault(wrong_byte=True)]
    with pytest.raises(CheckpointError) as caught:
        hub.pull("toy")
    content = NEEDED[name]
    stated = hashlib.sha256(content).hexdigest() if name == VAE else hub_stand_in.git_digest(content)
    assert name in caught.value.message and stated in caught.value.message
    assert caught.value.hint == "sorano pull toy fetches it again"
    home = hub.home_of(REPO)
    assert not list(home.glob(f"blobs/{stated}*")) and not (home / "snapshots" / COMMIT / name).exists()
    folder = hub.pull("toy")
    assert (folder / name).read_bytes() == content
    assert len(server.requests(name)) == 2


def test_a_file_that_changed_on_the_disk_is_refused_and_mended(server):
    folder = hub.pull("toy")
    blob = blob_of(folder, VAE)
    blob.write_bytes(bytes(SIZE))
    with pytest.raises(CheckpointError) as caught:
        hub.check_files(folder)
    assert VAE in caught.value.message and "is corrupt" in caught.value.message
    server.seen.clear()
    said = []
    assert hub.pull("toy", say=said.append) == folder
    assert server.fetched() == {VAE} and "is corrupt and is fetched again" in said[0]
    hub.check_files(folder)
    (folder / "vae/config.json").unlink()
    with pytest.raises(CheckpointError, match="config.json is missing"):
        hub.check_files(folder)


def test_a_changed_byte_under_an_old_time_is_found_by_check(server):
    folder = hub.pull("toy")
    blob = blob_of(folder, VAE)
    status = blob.stat()
    blob.write_bytes(bytes(SIZE))
    os.utime(blob, ns=(status.st_atime_ns, status.st_mtime_ns))
    server.seen.clear()
    hub.pull("toy")
    assert server.fetched() == set()
    hub.pull("toy", check=True)
    assert server.fetched() == {VAE} and blob_of(folder, VAE).read_bytes() == NEEDED[VAE]


def test_a_touched_file_is_read_once_and_believed(server):
    folder = hub.pull("toy")
    os.utime(blob_of(folder, VAE), ns=(1, 1))
    hub.check_files(folder)
    assert json.loads(hub._record_file(folder).read_text())["files"][VAE]["mtime_ns"] == 1


def test_the_token_goes_to_the_hub_and_not_to_the_store_of_large_files(server, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub.pull("toy")
    assert {seen.authorization for seen in server.seen if seen.host == "127.0.0.1"} == {"Bearer hf_secret"}
    assert {seen.authorization for seen in server.seen if seen.host == "localhost"} == {None}


GATED = {"X-Error-Code": "GatedRepo"}


@pytest.mark.parametrize(
    ("name", "fault", "kind", "words"),
    [
        ("toy", Fault(status=401), CheckpointError, ["401", "does not show", "hf auth login", "HF_TOKEN"]),
        ("toy", Fault(status=403), CheckpointError, ["403", "hf auth login", f"/{REPO}"]),
        ("toy", Fault(status=403, headers=GATED), CheckpointError, ["gated", "accept them at", "HF_TOKEN"]),
        ("toy", Fault(status=404), CheckpointError, ["404", REPO, "--preset PATH"]),
        ("tiny-org/toy-vide", Fault(status=404), RequestError, ["404", "sorano pull toy"]),
        ("toy", Fault(status=429, headers={"Retry-After": "30"}), CheckpointError, ["429", "wait 30 s"]),
        ("toy", Fault(status=429, headers={"RateLimit": '"api";r=0;t=55'}), CheckpointError, ["wait 55 s"]),
        ("toy", Fault(status=429), CheckpointError, ["429", "wait some minutes"]),
        ("toy", Fault(status=503), CheckpointError, ["503", "later"]),
        ("toy", Fault(status=200, body=b"<html>Log in to this network"), CheckpointError, ["as the hub does", "proxy"]),
    ],
)
def test_a_refusal_says_what_to_do(server, name, fault, kind, words):
    server.faults["api"] = [fault]
    with pytest.raises(kind) as caught:
        hub.pull(name)
    assert [word for word in words if word not in str(caught.value)] == []


@pytest.mark.parametrize("name", ["toy", "tiny-org/other"])
def test_a_file_that_the_hub_lists_and_does_not_have_is_named(server, name):
    server.repos["tiny-org/other"] = NEEDED
    server.faults[VAE] = [Fault(status=404)]
    with pytest.raises(CheckpointError) as caught:
        hub.pull(name)
    assert VAE in caught.value.message and "404" in caught.value.message
    assert f"sorano pull {name} tries again" in (caught.value.hint or "")


def test_a_token_that_is_refused_is_said(server, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_old")
    server.faults["api"] = [Fault(status=401)]
    with pytest.raises(CheckpointError, match="does not accept your token"):
        hub.pull("toy")


def test_asked_to_wait_in_mid_pull_it_stops_and_goes_on_later(server):
    server.faults[VAE] = [Fault(drop_after=100_000), Fault(status=429, headers={"Retry-After": "7"})]
    with pytest.raises(CheckpointError, match="wait 7 s, then sorano pull toy goes on where it was"):
        hub.pull("toy")
    hub.pull("toy")
    assert server.requests(VAE)[-1].range == "bytes=100000-"


def test_without_a_network_it_says_so_and_what_is_here_still_works(server, monkeypatch):
    use_endpoint(monkeypatch, "http://127.0.0.1:1")
    with pytest.raises(CheckpointError) as caught:
        hub.pull("toy")
    assert "http://127.0.0.1:1 failed" in caught.value.message and "HTTPS_PROXY" in (caught.value.hint or "")
    use_endpoint(monkeypatch, server.url)
    folder = hub.pull("toy")
    use_endpoint(monkeypatch, "http://127.0.0.1:1")
    assert hub.pull("toy") == folder


def test_offline_without_a_copy_says_so(server, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="HF_HUB_OFFLINE is set") as caught:
        hub.pull("toy")
    assert caught.value.hint == "unset it, then sorano pull toy; or --preset PATH"


def test_too_little_disk_is_said_with_numbers_before_anything_is_fetched(server, monkeypatch):
    server.repos["tiny-org/other"] = NEEDED
    hub.pull("tiny-org/other")
    server.seen.clear()
    usage = namedtuple("usage", "total used free")(10**9, 10**9 - 100_000, 100_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(CapacityError) as caught:
        hub.pull("toy")
    assert f"needs {TOTAL / 1e6:.0f} MB more" in caught.value.message and "0 MB is free" in caught.value.message
    assert "HF_HOME" in (caught.value.hint or "") and "`sorano rm tiny-org/other` frees" in (caught.value.hint or "")
    assert "preset world comes with Sorano" in (caught.value.hint or "")
    assert server.fetched() == set() and not hub.home_of(REPO).exists()


def test_the_largest_preset_that_the_disk_holds_is_named(server, monkeypatch):
    usage = namedtuple("usage", "total used free")(10**12, 10**12 - TOTAL + 1, TOTAL - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    for name, layers in (("small", 1), ("smaller", 0)):
        text = replace(TEXT, vocab_size=40 + 1000 * layers)
        configs = ModelConfigs(TRANSFORMER, replace(VaeConfig(), base_dim=1, dim_mult=(1, 1, 1, 1)), text)
        monkeypatch.setitem(PRESETS, name, replace(PRESETS["toy"], name=name, repo=f"tiny-org/{name}", configs=configs))
    with pytest.raises(CapacityError) as caught:
        hub.pull("toy")
    size = format_bytes(PRESETS["small"].download_bytes)
    assert f"`sorano pull small` (up to {size}) would fit" in (caught.value.hint or "")


def without(*endings, **more):
    return {name: content for name, content in NEEDED.items() if not name.endswith(endings)} | more


def of_pipeline(name):
    return {**NEEDED, "model_index.json": as_json({"_class_name": name})}


def with_config(part, config, **more):
    return {**NEEDED, f"{part}/config.json": as_json({**config.to_dict(), **more})}


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (without("tensors", **{"vae/weights.bin": b"x"}), ["vae/weights.bin, a pickle", "is refused"]),
        (without(VAE, **{"vae/diffusion.pth": b"x"}), ["vae/diffusion.pth, a pickle"]),
        (without("model_index.json"), ["no model_index.json", "the nearest preset is toy"]),
        (of_pipeline("FluxPipeline"), ["cannot run", REPO, "of FLUX (FluxPipeline)", "Wan family"]),
        (of_pipeline("WanVACEPipeline"), ["WanVACEPipeline", "WanImageToVideoPipeline"]),
        (with_config("text_encoder", TEXT, rotary=True), ["text_encoder/config.json", "rotary"]),
        (with_config("transformer", TRANSFORMER, num_layers="two"), ["transformer/config.json", "num_layers is 'two'"]),
        (
            {**NEEDED, SCHEDULER: as_json({**scheduler_config(), "_class_name": "DPMSolverMultistepScheduler"})},
            [SCHEDULER, "DPMSolverMultistepScheduler"],
        ),
        (without("vae/config.json"), ["vae/config.json is missing"]),
        (without(SHARDS[0]), [f"lists {SHARDS[0]}", "not there"]),
        ({"../../evil.json": b"{}", **NEEDED}, []),
    ],
)
def test_a_repository_that_is_no_wan_folder_is_refused_before_its_weights_come(server, files, words):
    server.repos[REPO] = files
    if not words:  # a name that leads out of the folder is not taken
        assert set(files_of(hub.pull("toy"))) == set(NEEDED)
        return
    with pytest.raises(CheckpointError) as caught:
        hub.pull("toy")
    assert [word for word in words if word not in str(caught.value)] == []
    assert not [name for name in server.fetched() if name.endswith((".safetensors", ".bin", ".pth"))]


def test_a_hub_without_digests_is_refused(server, monkeypatch):
    monkeypatch.setattr(hub_stand_in, "sibling", lambda name, content: {"rfilename": name})
    with pytest.raises(CheckpointError, match="states no size and digest of model_index.json"):
        hub.pull("toy")


def test_list_and_show_say_what_is_there_and_rm_frees_it(server):
    server.repos["tiny-org/other"] = NEEDED
    assert [(model.name, model.state) for model in hub.list_models()] == [("world", "embedded"), ("toy", "not pulled")]
    before = hub.show("toy")
    assert before["download_bytes"] == 4 * CONFIGS.parameters()
    assert before["parameters"]["transformer"] == TRANSFORMER.parameters() and before["folder"] is None
    server.faults[VAE] = [Fault(wrong_byte=True)]
    with pytest.raises(CheckpointError):
        hub.pull("toy")
    assert hub.list_models()[1].state == "incomplete"
    hub.pull("toy")
    hub.pull("tiny-org/other")
    models = {model.name: model for model in hub.list_models()}
    assert [(model.name, model.state) for model in models.values()][1:] == [
        ("toy", "pulled"),
        ("tiny-org/other", "pulled"),
    ]
    assert TOTAL < models["toy"].disk_bytes < TOTAL + 9_000 and models["toy"].download_bytes == TOTAL
    assert (models["toy"].licence, models["tiny-org/other"].licence) == ("MIT", "mit")
    shown = hub.show("toy")
    assert shown["parameters"]["transformer"] == TRANSFORMER.parameters()
    assert shown["memory_bytes"]["cpu float32"] > shown["memory_bytes"]["cpu bfloat16"] > 0
    assert shown["settings"]["num_steps"] == PRESETS["toy"].num_steps and shown["repo"] == REPO
    assert shown["least_memory_bytes"]["cuda bfloat16"] < shown["memory_bytes"]["cuda bfloat16"]
    assert hub.show("tiny-org/other")["settings"]["size"] == "128x128"  # it has toy's networks
    assert hub.remove("toy") == models["toy"].disk_bytes
    assert not hub.home_of(REPO).exists() and hub.find(PRESETS["toy"]) is None
    assert [model.name for model in hub.list_models() if model.state == "pulled"] == ["tiny-org/other"]


def test_show_prints_every_official_size(server, monkeypatch):
    monkeypatch.setitem(PRESETS, "toy", replace(PRESETS["toy"], sizes=("64x64", "64x32")))
    assert hub.show("toy")["settings"]["sizes"] == ("64x64", "64x32")
    assert "sizes" not in hub.show("world")["settings"]
    assert "64x64, 64x32" in run("show", "toy").stdout


def test_two_repositories_with_other_bytes_under_one_name_are_two(server):
    server.repos["tiny-org/other"] = {**NEEDED, VAE: noise(SIZE, 99)}
    folders = hub.pull("toy"), hub.pull("tiny-org/other")
    assert [(folder / VAE).read_bytes() for folder in folders] == [NEEDED[VAE], noise(SIZE, 99)]


@pytest.fixture
def served_model(server, tiny_folder, monkeypatch):
    """A model that runs, as a preset and as a repository that no preset has."""
    files = {path.relative_to(tiny_folder).as_posix(): path.read_bytes() for path in tiny_folder.rglob("*.*")}
    server.repos[REPO] = server.repos["tiny-org/other"] = files
    configs = ModelConfigs.of_folder(tiny_folder)
    toy = replace(PRESETS["toy"], configs=configs, size="32x32", num_frames=5, num_steps=2, max_side=64)
    monkeypatch.setitem(PRESETS, "toy", toy)
    return server


@pytest.mark.parametrize(("name", "frames"), [("toy", 5), (REPO, 5), ("tiny-org/other", 9)])
def test_what_was_pulled_makes_a_video(served_model, name, frames, monkeypatch, tmp_path):
    words = {"preset": name, "seed": 1, "device": "cpu", "upscale": 1}
    with pytest.raises(CheckpointError, match="this machine"):
        sorano.generate("a red ball", **words)
    folder = hub.pull(name)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    served_model.seen.clear()
    made = sorano.generate("a red ball", output=tmp_path / "a.mp4", **words)
    assert made.frames_THWC.shape == (frames, 32, 32, 3) and (tmp_path / "a.mp4").is_file()
    assert made.record["preset"]["sha256"] == hub.digests(folder) != {}
    assert made.record["request"]["preset"] == name and served_model.seen == []
    again = sorano.generate(replace(made.request, output=None))
    assert (again.frames_THWC == made.frames_THWC).all()


def test_a_pulled_file_that_changed_stops_the_run(served_model):
    folder = hub.pull("tiny-org/other")
    blob_of(folder, VAE).write_bytes(b"x")
    with pytest.raises(CheckpointError, match="is corrupt"):
        sorano.generate("a red ball", preset="tiny-org/other")


def test_a_repository_that_was_not_pulled_says_what_to_do(server):
    with pytest.raises(CheckpointError) as caught:
        sorano.generate("a red ball", preset="tiny-org/toy-vide")
    assert "is not a folder, and was not pulled" in caught.value.message
    assert "sorano pull tiny-org/toy-vide" in (caught.value.hint or "") and "toy" in (caught.value.hint or "")


def test_rm_refuses_what_was_not_pulled(server):
    for name in ("toy", "world", "some/body"):
        with pytest.raises(RequestError):
            hub.remove(name)


def test_the_commands_print_data_on_stdout_and_words_on_stderr(server):
    pulled = run("pull", "toy")
    assert (pulled.exit_code, pulled.stdout) == (0, f"{hub.find(PRESETS['toy'])}\n")
    assert pulled.stderr.startswith("toy: fetching")
    assert json.loads(run("pull", "toy", "--json", "--quiet").stdout)["state"] == "pulled"
    assert run("pull", "world", "-q").stdout == f"{PRESETS['world'].folder}\n"
    listed = run("list")
    assert [line.split()[0] for line in listed.stdout.splitlines()] == ["world", "toy"] and listed.exit_code == 0
    assert json.loads(run("list", "--json").stdout)["models"][1]["repo"] == REPO
    shown = run("show", "toy").stdout
    for word in (REPO, "MIT", "cuda bfloat16", "num_steps", str(TRANSFORMER.parameters())):
        assert word in shown
    assert json.loads(run("show", "toy", "--json").stdout)["settings"]["num_frames"] == 25
    removed = run("rm", "toy", "--json")
    assert json.loads(removed.stdout)["freed_bytes"] > TOTAL and "removed" in removed.stderr


def test_the_commands_end_with_the_codes_of_their_errors(server, monkeypatch):
    nothing = run("pull", "toi")
    assert nothing.exit_code == 2 and "the nearest is toy" in nothing.stderr and nothing.stdout == ""
    assert run("rm", "toy").exit_code == 2
    assert run("show", "no such thing").exit_code == 2
    server.faults["api"] = [Fault(status=401)]
    refused = run("pull", "toy")
    assert refused.exit_code == 3 and "hint: log in" in refused.stderr and "Traceback" not in refused.stderr
    monkeypatch.setattr(shutil, "disk_usage", lambda path: namedtuple("usage", "free")(10))
    assert run("pull", "toy").exit_code == 4
    monkeypatch.setattr(hub, "pull", interrupted)
    stopped = run("pull", "toy")
    assert stopped.exit_code == 130 and "sorano pull toy goes on where it was" in stopped.stderr


def interrupted(*words, **more):
    raise KeyboardInterrupt


def test_show_of_a_video_is_its_record(monkeypatch, tmp_path):
    (tmp_path / "clip.mp4").touch()
    monkeypatch.setattr("sorano.video.read_metadata", lambda path: {"request": {"seed": 7}})
    shown = run("show", str(tmp_path / "clip.mp4"))
    assert (shown.exit_code, shown.stdout.split()) == (0, ["request", "seed", "7"])


def test_the_variables_of_huggingface_hub_are_honoured(server, tmp_path):
    """In a process of its own, which reads them as it starts."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment |= {"HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": "hf_secret"}
    environment |= {"HOME": str(tmp_path), "HF_HUB_DISABLE_TELEMETRY": "1"}

    def command(*words, **more):
        return subprocess.run(
            [sys.executable, "-m", "sorano", *words],
            env=environment | more,
            capture_output=True,
            text=True,
            check=False,
        )

    pulled = command("pull", REPO)
    assert pulled.returncode == 0, pulled.stderr
    assert pulled.stdout == f"{tmp_path}/home/hub/models--tiny-org--toy-video/snapshots/{COMMIT}\n"
    assert server.seen[0].authorization == "Bearer hf_secret"
    server.seen.clear()
    again = command("pull", REPO, "--json", HF_HUB_OFFLINE="1")
    assert json.loads(again.stdout)["folder"] + "\n" == pulled.stdout and "HF_HUB_OFFLINE" in again.stderr
    assert server.seen == []


@pytest.fixture
def cached(server, monkeypatch):
    """The repository's folder as another program leaves it in the cache: without our record, and no network."""
    folder = hub.pull("toy")
    shutil.rmtree(folder.parent.parent / hub.RECORDS)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return folder


def test_what_another_program_fetched_whole_is_used_and_said(cached):
    assert hub.find(PRESETS["toy"]) == cached
    found = hub.located(PRESETS["toy"])
    assert found.folder == cached and "sorano pull toy checks its files" in found.note
    (stored,) = [model for model in hub.list_models() if model.name == "toy"]
    assert stored.state == "cached" and stored.disk_bytes >= TOTAL


def test_what_another_program_left_unfinished_is_not_used(cached):
    (cached / VAE).unlink()
    assert hub.find(PRESETS["toy"]) is None


def test_a_pull_without_a_network_checks_what_another_program_fetched(cached):
    said = []
    assert hub.pull("toy", say=said.append) == cached and "the copy on this machine is used" in said[0]
    blob = blob_of(cached, VAE)
    blob.write_bytes(blob.read_bytes()[:-1] + b"?")
    with pytest.raises(CheckpointError, match="corrupt"):
        hub.pull("toy")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("SSL_CERT_FILE", "/nonexistent.pem", "/nonexistent.pem"),
        ("ALL_PROXY", "socks5://user:secret@127.0.0.1:9", "package"),
    ],
)
def test_what_the_network_variables_ask_for_and_cannot_have_is_said(server, monkeypatch, name, value, said):
    def refuse():
        raise FileNotFoundError(2, "No such file or directory") if "SSL" in name else ImportError("no", name="socksio")

    monkeypatch.setenv(name, value)
    monkeypatch.setattr("huggingface_hub.utils.get_session", refuse)
    with pytest.raises(CheckpointError) as caught:
        hub.pull("toy")
    assert said in caught.value.message and "secret" not in caught.value.message


def test_a_token_of_other_letters_is_named(server, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_ä")
    with pytest.raises(CheckpointError, match="token"):
        hub.pull("toy")
