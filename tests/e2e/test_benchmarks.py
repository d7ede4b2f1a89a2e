"""The benchmarks run, at toy sizes; what they measure is nobody's promise here."""

import ast
import json
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
OURS = ("sorano", "support", "attacks")


@pytest.mark.parametrize("path", sorted(BENCHMARKS.glob("*.py")), ids=lambda path: path.stem)
def test_what_a_benchmark_imports_of_ours_is_there(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            assert not [one.name for one in node.names if one.name.startswith("test_")]
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in OURS:
            module = import_module(node.module)
            for one in node.names:
                assert hasattr(module, one.name) or find_spec(f"{node.module}.{one.name}"), f"{node.module}.{one.name}"
        elif isinstance(node, ast.ImportFrom):
            assert not str(node.module).startswith("test_")


def test_the_gpu_benchmark_runs_small_on_any_machine():
    pytest.importorskip("diffusers")
    command = [sys.executable, str(BENCHMARKS / "wan_gpu.py"), "--small", "--repeats", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout.splitlines()[-1])
    names = [row["name"] for row in document["rows"]]
    assert any("forward" in name for name in names) and any("decode" in name for name in names)
    assert all(row["ours"] > 0 and row["theirs"] > 0 for row in document["rows"])
    assert all(row["difference"] < 0.15 for row in document["rows"])  # bfloat16, random weights


@pytest.mark.full
def test_the_benchmark_of_generation_runs_in_two_steps():
    pytest.importorskip("diffusers")
    command = [sys.executable, str(BENCHMARKS / "generate.py"), "--repeats", "1", "--num-steps", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout.splitlines()[-1])
    assert document["ours, float32, against diffusers' float32: mean difference of 255"] < 1
    assert document["seconds of video per second, warm"] > 0


def test_the_benchmark_of_a_busy_machine_runs_in_one_step():
    command = [sys.executable, str(BENCHMARKS / "busy.py"), "--rounds", "1", "--num-steps", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout.splitlines()[-1])
    assert document["slower busy"] > 0 and document["threads"]["Sorano's"] >= 1
    assert len(document["seconds"]) == 5


@pytest.mark.full
def test_the_benchmark_of_calls_runs_for_seconds():
    command = [sys.executable, str(BENCHMARKS / "call.py"), "--minutes", "0.1", "--swaps", "1", "--faces", "0"]
    done = subprocess.run([*command, "--lights", "1"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout.splitlines()[-1])
    assert document["honest"]["flagged"] == 0 and document["swapped"]["count"] == 1
    assert document["light"]["count"] == document["replayed"]["count"] == 1
    assert min(document["cost"].values()) > 0
    share = {name: document[name]["passed"] for name in ("light", "replayed")}
    is_found = document["swapped"]["within_5s"] == 1
    assert document["passed"] == (is_found and share == {"light": 1, "replayed": 0})


@pytest.mark.full
def test_the_benchmark_of_blending_runs_small():
    done = subprocess.run([sys.executable, str(BENCHMARKS / "blend.py"), "--small"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout.splitlines()[-1])["rows"]) == 8
