"""How threads wait, and how many there are: set before torch loads, never over the user's own setting."""

import json
import os
import subprocess
import sys

import pytest

from sorano import threads
from sorano.threads import Use


def settings_in(code, **extra):
    """The settings of OpenMP in a new process after some code, and how many threads torch has there."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "KMP_"))}
    code += "; import os, json; print(json.dumps(dict(os.environ)))"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**environment, **extra}, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("module", ["sorano", "sorano.cli", "sorano.plan.cli", "sorano.train.recipes"])
def test_threads_wait_passively_from_any_first_import(module):
    assert settings_in(f"import {module}")["OMP_WAIT_POLICY"] == "PASSIVE"


@pytest.mark.parametrize("name", threads.WAIT_SETTINGS)
def test_the_users_own_setting_stands(name):
    found = settings_in("import sorano", **{name: "ACTIVE" if "POLICY" in name else "7"})
    assert found[name] in ("ACTIVE", "7") and found.get("OMP_WAIT_POLICY") != "PASSIVE"
    assert threads.choose(5, {"OMP_NUM_THREADS": "5"}) == 5


def test_torch_is_not_loaded_before_the_setting():
    code = "import sys, sorano; assert 'torch' not in sys.modules"
    assert settings_in(code)["KMP_BLOCKTIME"] == "0"


@pytest.mark.parametrize(
    ("others", "own", "cores", "free"),
    [(0.0, 0.0, 2, 2), (0.2, 1.9, 2, 2), (1.0, 0.5, 2, 1), (2.0, 0.0, 2, 1), (10.0, 3.0, 64, 54), (0.5, 0.0, 2, 1)],
)
def test_cores_are_free_that_other_processes_do_not_use(others, own, cores, free):
    before, after = Use(10.0, 100.0, 5.0), Use(11.0, 100.0 + others + own, 5.0 + own)
    assert threads.free_cores(before, after, cores) == free


def test_where_the_system_does_not_say_all_cores_are_free():
    assert threads.free_cores(Use(0, None, 0), Use(1, None, 0), 8) == 8


def test_a_containers_quota_counts(monkeypatch, tmp_path):
    monkeypatch.setattr(threads, "QUOTA", tmp_path / "cpu.max")
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    assert threads.allowed_cores() == min(2, len(os.sched_getaffinity(0)))
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    assert threads.allowed_cores() == 1


def test_the_number_of_threads_is_decided_once(monkeypatch):
    monkeypatch.setattr(threads, "_decided", False)
    monkeypatch.setattr(threads, "free_cores", lambda before, after, cores: 1)
    assert threads.choose(4, {}) == 1
    assert threads.choose(4, {}) == 4  # what was set since then is somebody's own
