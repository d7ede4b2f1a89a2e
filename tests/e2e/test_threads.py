"""How threads wait, and how many there are: set before torch loads, never over the user's own setting."""

import json
import os
import subprocess
import sys

import pytest
import torch

import sorano
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


@pytest.mark.parametrize("module", ["sorano", "sorano.cli", "sorano.cli.plan", "sorano.train.recipes"])
def test_threads_spin_briefly_from_any_first_import(module):
    found = settings_in(f"import {module}")
    assert found["GOMP_SPINCOUNT"] == str(threads.SPINS) and "OMP_WAIT_POLICY" not in found


def test_threads_sleep_where_the_system_does_not_say_what_its_cores_do(monkeypatch, tmp_path):
    monkeypatch.setattr(threads, "STAT", tmp_path / "stat")
    settings = {}
    threads.wait_briefly(settings)
    assert settings["OMP_WAIT_POLICY"] == "PASSIVE"


@pytest.mark.parametrize("name", threads.WAIT_SETTINGS)
def test_the_users_own_setting_stands(name):
    value = "ACTIVE" if "POLICY" in name else "7"
    found = settings_in("import sorano", **{name: value})
    assert {one: found[one] for one in threads.WAIT_SETTINGS if one in found} == {name: value}


def test_torch_is_not_loaded_before_the_setting():
    code = "import sys, sorano; assert 'torch' not in sys.modules"
    assert settings_in(code)["KMP_BLOCKTIME"] == "1"


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


class Cores:
    """A machine of four cores whose use by others a test sets, with a clock of its own."""

    def __init__(self, monkeypatch):
        self.when = self.busy = self.own = 0.0
        self.others, self.share = 0.0, 1.0  # cores that others use, and this process
        monkeypatch.setattr(threads, "allowed_cores", lambda: 4)
        monkeypatch.setattr(threads.Use, "now", classmethod(lambda cls: Use(self.when, self.busy, self.own)))
        monkeypatch.setattr(threads.time, "monotonic", lambda: self.when)
        monkeypatch.setattr(threads.time, "sleep", self.pass_by)
        self.adapter = threads.Adapter()

    def pass_by(self, seconds):
        self.when, self.own = self.when + seconds, self.own + self.share * seconds
        self.busy += (self.others + self.share) * seconds

    def threads_after(self, seconds, others, environment=None, share=1.0):
        self.others, self.share = others, share
        self.pass_by(seconds)
        return self.adapter.adapt(environment or {})


@pytest.fixture
def four_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def test_the_number_of_threads_follows_the_cores_that_others_leave_free(monkeypatch, four_threads):
    cores = Cores(monkeypatch)
    assert (
        cores.threads_after(0, 0.0) == 4 and cores.when >= threads.LEAST_SECONDS
    )  # the first time, it waits and looks
    assert cores.threads_after(1, 3.0) == torch.get_num_threads() == 1
    assert cores.threads_after(0.01, 0.0) == 1  # too short a time to tell
    assert cores.threads_after(1, 1.0) == torch.get_num_threads() == 3
    assert cores.threads_after(1, 0.0) == 4
    assert cores.threads_after(1, 9.0) == 1  # one, at least


def test_what_others_did_while_this_process_was_idle_does_not_count(monkeypatch, four_threads):
    cores = Cores(monkeypatch)
    cores.threads_after(1, 0.0)
    assert cores.threads_after(3600, 3.0, share=0.01) == 4
    assert cores.threads_after(1, 3.0) == 1
    assert cores.threads_after(60, 0.0) == 4  # one long step


def test_the_users_own_number_of_threads_stands(monkeypatch, four_threads):
    cores = Cores(monkeypatch)
    assert cores.threads_after(1, 3.0, {"OMP_NUM_THREADS": "4"}) == 4
    assert cores.threads_after(1, 3.0) == 1
    torch.set_num_threads(2)
    assert cores.threads_after(1, 0.0) == torch.get_num_threads() == 2


def test_there_are_never_more_threads_than_torch_would_take(monkeypatch, four_threads):
    torch.set_num_threads(2)
    cores = Cores(monkeypatch)
    assert cores.threads_after(1, 0.0) == 2
    assert cores.threads_after(1, 3.0) == 1
    assert cores.threads_after(1, 0.0) == 2


def test_a_run_adapts_at_each_step(tiny_folder, monkeypatch):
    calls = []
    monkeypatch.setattr(threads, "adapt", lambda: calls.append(torch.get_num_threads()))
    sorano.generate("a red ball", preset=str(tiny_folder), seed=1, num_steps=3, device="cpu", dtype="float32")
    assert len(calls) >= 4  # three steps and a decoded chunk


def test_a_clip_is_the_same_by_any_number_of_threads(tiny_folder):
    made = []
    before = torch.get_num_threads()
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        made.append(sorano.generate("a red ball", preset=str(tiny_folder), seed=1, device="cpu").frames_THWC)
    torch.set_num_threads(before)
    assert (made[0] == made[1]).all() and (made[0] == made[2]).all()
