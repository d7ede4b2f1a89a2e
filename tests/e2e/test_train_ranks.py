"""Several processes that train one model: what they learn together is what one process learns from all their data."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support.rank_run import Curve
from torch import nn

from sorano import errors
from sorano.train.loop import LoopConfig, step_generator, train
from sorano.train.ranks import ALONE, Ranks, is_first_process

CONFIG = {"learning_rate": 0.05, "warmup_steps": 2, "log_every": 4, "save_every": 4, "decay_fraction": 0.0}


def torchrun(*words, ranks=2):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"}
    return subprocess.run([*command, *map(str, words)], capture_output=True, text=True, env=environment, timeout=300)


def run(folder, num_steps):
    """The weights of both processes after so many steps."""
    done = torchrun(
        Path(__file__).parents[1] / "support" / "rank_run.py", folder, json.dumps({**CONFIG, "num_steps": num_steps})
    )
    assert done.returncode == 0, done.stderr
    return [load_file(folder / f"weights-{rank}.safetensors") for rank in (0, 1)]


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A folder in which two processes have trained without a stop."""
    folder = tmp_path_factory.mktemp("ranks") / "two"
    return folder, run(folder, 8)


class OfBoth(Curve):
    """Learns from what two processes draw."""

    step = 0

    def batch(self, generator):
        draws = [step_generator(0, self.step, 2 * rank) for rank in (0, 1)]
        return {"x": torch.cat([Curve.batch(self, one)["x"] for one in draws])}

    def loss(self, batch, generator):
        noises = [step_generator(0, self.step, 2 * rank + 1) for rank in (0, 1)]
        self.step += 1
        losses = [Curve.loss(self, {"x": x}, one)[0] for x, one in zip(batch["x"].chunk(2), noises, strict=True)]
        return torch.stack(losses).mean(), {}


def test_two_processes_learn_what_one_learns_from_the_data_of_both(straight, tmp_path):
    folder, (first, second) = straight
    assert first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
    config = LoopConfig(**CONFIG, num_steps=8)
    for key, value in train(OfBoth(3), config, tmp_path / "one", lambda text: None).state_dict().items():
        torch.testing.assert_close(first[key], value, rtol=1e-5, atol=1e-6)
    steps = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert steps == [4, 8]  # written once, by the first


def test_two_processes_go_on_from_their_checkpoint_as_if_they_had_not_stopped(straight, tmp_path):
    expected = straight[1][0]
    run(tmp_path / "stopped", 4)
    resumed = run(tmp_path / "stopped", 8)[0]
    assert all(torch.equal(expected[key], resumed[key]) for key in expected)


def test_torchrun_trains_the_world_model_into_one_folder(tmp_path):
    pytest.importorskip("numba")
    done = torchrun("-m", "sorano", "train", "world", "--recipe", "smoke", "-o", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(tmp_path / "run" / "model")] and "2 processes" in done.stderr
    from sorano.models import checkpoint

    checkpoint.load(tmp_path / "run" / "model")


def test_a_batch_that_cannot_be_shared_alike_is_refused():
    assert Ranks(1, 4).share(8) == 2 and ALONE.share(7) == 7
    with pytest.raises(errors.RequestError, match="7 cannot be shared by 2"):
        Ranks(0, 2).share(7)


def test_one_process_exchanges_nothing(monkeypatch):
    layer = nn.Linear(2, 2)
    layer(torch.ones(1, 2)).sum().backward()
    before = layer.weight.grad
    ALONE.average(list(layer.parameters()))
    ALONE.wait()
    assert layer.weight.grad is before
    assert is_first_process()
    monkeypatch.setenv("RANK", "3")
    assert not is_first_process()
