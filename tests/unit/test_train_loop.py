"""The training loop: it learns, it resumes exactly after a kill, it writes what it did."""

import json
import math
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sorano.train.loop import LoopConfig, kept_weights, load_averages, step_generator, train

CONFIG = LoopConfig(num_steps=12, learning_rate=0.05, warmup_steps=2, log_every=2, save_every=3, sheet_every=6)


class Line:
    """Learns y = 2 x + 1 from noisy points. `kill_at` ends the process, as `kill -9` would, before that step."""

    name = "line"
    dtype = torch.float32

    def __init__(self, kill_at: int | None = None) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))
        self.kill_at, self.calls = kill_at, 0

    def batch(self, generator):
        if self.calls == self.kill_at:
            signal.raise_signal(signal.SIGKILL)
        self.calls += 1
        return {"x": torch.rand(16, 1, generator=generator)}

    def loss(self, batch, generator):
        noise = 0.1 * torch.randn(batch["x"].shape, generator=generator)
        loss = (self.model(batch["x"]) - (2 * batch["x"] + 1 + noise)).square().mean()
        return loss, {"twice": 2 * loss}

    def sheet(self, model):
        return np.full((4, 6, 3), 7, np.uint8)


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def quiet(text: str) -> None:
    pass


def test_it_learns(tmp_path):
    config = LoopConfig(num_steps=300, learning_rate=0.05, warmup_steps=5, log_every=50)
    train(Line(), config, tmp_path, quiet)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["loss"] < 0.03 < lines[0]["loss"]
    assert lines[-1]["twice"] == pytest.approx(2 * lines[-1]["loss"])
    assert [line["step"] for line in lines] == [50, 100, 150, 200, 250, 300]
    assert lines[-1]["flops_per_second"] > 0


@pytest.mark.posix
def test_a_killed_run_ends_exactly_as_a_straight_one(tmp_path):
    straight = weights(train(Line(), CONFIG, tmp_path / "straight", quiet))
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "from test_train_loop import CONFIG, Line\n"
        "from sorano.train.loop import train\n"
        "train(Line(kill_at=int(sys.argv[3])), CONFIG, Path(sys.argv[2]))\n"
    )
    for kill_at in (5, 4):  # dies before step 6, then (resumed at 3) before step 8
        command = [sys.executable, "-c", script, str(Path(__file__).parent), str(tmp_path / "killed"), str(kill_at)]
        assert subprocess.run(command, capture_output=True).returncode == -signal.SIGKILL
    resumed = weights(train(Line(), CONFIG, tmp_path / "killed", quiet))
    assert torch.equal(resumed, straight)
    steps = [json.loads(line)["step"] for line in (tmp_path / "killed" / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps)) and steps[-1] == 12


def test_another_seed_gives_another_model(tmp_path):
    other = LoopConfig(**{**CONFIG.__dict__, "seed": 1})
    one, two = (train(Line(), c, tmp_path / str(i), quiet) for i, c in enumerate((CONFIG, other)))
    assert not torch.equal(weights(one), weights(two))


def test_a_finished_run_is_not_repeated(tmp_path):
    first = weights(train(Line(), CONFIG, tmp_path, quiet))
    task = Line()
    again = weights(train(task, CONFIG, tmp_path, quiet))
    assert torch.equal(first, again) and task.calls == 0


def test_a_line_cut_short_by_a_kill_is_dropped(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 2, "loss"')
    train(Line(), CONFIG, tmp_path, quiet)
    assert all(json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines())


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    task = Line()
    task.loss = lambda batch, generator: (task.model(batch["x"]).mean() * math.nan, {})
    with pytest.raises(FloatingPointError, match="line: the loss is nan"):
        train(task, CONFIG, tmp_path, quiet)


def test_the_rate_warms_up_holds_and_falls():
    config = LoopConfig(num_steps=100, learning_rate=1.0, warmup_steps=10, decay_fraction=0.5, final_rate=0.1)
    assert config.rate(0) == pytest.approx(0.1)
    assert config.rate(20) == config.rate(50) == 1
    assert config.rate(75) == pytest.approx(0.55)
    assert config.rate(100) == pytest.approx(0.1)


def test_each_step_has_its_own_noise_whenever_it_is_drawn():
    draws = {(s, k): torch.rand(1, generator=step_generator(0, s, k)).item() for s in range(4) for k in range(2)}
    assert len(set(draws.values())) == 8
    assert draws[2, 1] == torch.rand(1, generator=step_generator(0, 2, 1)).item()


def test_sheets_are_pictures(tmp_path):
    from PIL import Image

    task = Line()
    train(task, CONFIG, tmp_path / "run", quiet)
    picture = np.asarray(Image.open(tmp_path / "run" / "sheet-000012.png"))
    assert np.array_equal(picture, task.sheet(task.model))
    assert sorted(p.name for p in (tmp_path / "run").glob("*.png")) == ["sheet-000006.png", "sheet-000012.png"]


def test_kept_weights_are_those_of_a_run_that_ends_there(tmp_path):
    long = LoopConfig(num_steps=12, learning_rate=0.05, warmup_steps=2, decay_fraction=0.0, keep=(5, 12))
    short = LoopConfig(num_steps=5, learning_rate=0.05, warmup_steps=2, decay_fraction=0.0)
    train(Line(), long, tmp_path / "long", quiet)
    ended = train(Line(), short, tmp_path / "short", quiet)
    kept = Line().model
    load_averages(kept_weights(tmp_path / "long", 5), kept)
    assert torch.equal(weights(kept), weights(ended))
    assert kept_weights(tmp_path / "long", 12).exists()
