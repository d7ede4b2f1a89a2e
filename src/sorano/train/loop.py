"""The training loop: one for every network.

A `Task` says what to learn; the loop does the rest, and does it so that a run can be killed at any moment:

- everything random in a step comes from a generator seeded by (seed, step), so a resumed run repeats the straight one;
- weights, moving averages and optimizer moments are saved as safetensors under a temporary name, then renamed;
- several processes may train one model (`sorano.train.ranks`): each has a share of every batch;
- `metrics.jsonl` gets one line each `log_every` steps; lines after the resumed step are dropped and written again.

Master weights and optimizer state are float32; the task computes in the dtype it was given. Nothing in a step waits for
the device: numbers are read back once each `log_every` steps.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from sorano import threads
from sorano.files import atomic, write_atomic
from sorano.train.optimizer import STATE, optimizers
from sorano.train.ranks import ALONE, Ranks

Batch = dict[str, Any]
Log = Callable[[str], None]


class Task(Protocol):
    """What a network learns.

    A task may also have `begin_step(step, num_steps)`, which is called before the step's batch is drawn.
    """

    name: str
    dtype: torch.dtype  # of the matrix products

    @property
    def model(self) -> nn.Module:
        """The network, or the networks that learn together."""

    def batch(self, generator: torch.Generator) -> Batch:
        """The data of one step, wholly determined by the (CPU) generator."""

    def loss(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """The scalar to minimise, and numbers to log, as tensors on the device."""

    def sheet(self, model: nn.Module) -> np.ndarray | None:
        """A picture (HWC uint8) of what `model` can do now, or None."""


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """How long and how fast."""

    num_steps: int
    learning_rate: float
    # schedule
    warmup_steps: int = 50
    decay_fraction: float = 1.0  # share of the run, at its end, over which the rate falls (half cosine)
    final_rate: float = 0.02  # of the peak
    # optimizers (`sorano.train.optimizer`)
    betas: tuple[float, float] = (0.9, 0.95)  # of AdamW
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    ema_decay: float = 0.999  # of the averaged weights, reached after a warm-up of (1 + n) / (10 + n)
    # records
    seed: int = 0
    log_every: int = 20
    save_every: int = 200
    sheet_every: int = 500
    keep: tuple[int, ...] = ()  # steps after which the averaged weights are kept (`kept_weights`)

    def rate(self, step: int) -> float:
        """Learning rate of a step: linear warm-up, constant, then a half cosine down to `final_rate`."""
        warm = min(1.0, (step + 1) / max(1, self.warmup_steps))
        start = self.num_steps * (1 - self.decay_fraction)
        falling = min(1.0, max(0.0, (step - start) / max(1.0, self.num_steps - start)))
        fall = self.final_rate + (1 - self.final_rate) * 0.5 * (1 + math.cos(math.pi * falling))
        return self.learning_rate * warm * fall

    def ema(self, step: int) -> float:
        """Decay of the moving average at a step."""
        return min(self.ema_decay, (1 + step) / (10 + step))


def step_generator(seed: int, step: int, stream: int = 0) -> torch.Generator:
    """The randomness of one step; streams (data, noise) are independent of each other."""
    words = np.random.SeedSequence([seed, step, stream]).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(words[0]) << 31 ^ int(words[1]))


def train(task: Task, config: LoopConfig, folder: Path, log: Log = print, ranks: Ranks = ALONE) -> nn.Module:
    """Trains `task.model` from nothing or from the folder's checkpoint; returns it with the averaged weights.

    Where several `ranks` train, the task's batches are this one's share, and only the first one writes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model = task.model.train()
    device = next(model.parameters()).device
    parameters: list[Tensor] = [p for p in model.parameters() if p.requires_grad]
    ema = [p.detach().clone() for p in parameters]
    both = optimizers(model, config.learning_rate, betas=config.betas, weight_decay=config.weight_decay)
    checkpoint = folder / "checkpoint.safetensors"
    start, spent = _resume(checkpoint, config, parameters, ema, both)
    ranks.wait()  # until all have read the checkpoint
    metrics = MetricsLog(folder / "metrics.jsonl", keep_below=start) if ranks.is_first else None
    if start:
        log(f"{task.name}: resumed at step {start} of {config.num_steps}")
    peak = matmul_flops_per_second(device, task.dtype) if start < config.num_steps else math.nan
    report = _Report(task.name, config, log, metrics, peak, ranks.count, spent)

    for step in range(start, config.num_steps):
        threads.adapt()
        if (begin := getattr(task, "begin_step", None)) is not None:
            begin(step, config.num_steps)
        batch = task.batch(step_generator(config.seed, step, 2 * ranks.rank))
        for group in (group for optimizer in both for group in optimizer.param_groups):
            group["lr"] = config.rate(step)
        noise = step_generator(config.seed, step, 2 * ranks.rank + 1)
        if math.isnan(report.flops_per_step):
            loss, extra, report.flops_per_step = _counted_step(task, batch, noise)
        else:
            loss, extra = task.loss(batch, noise)
            loss.backward()
        ranks.average(parameters)
        norm = nn.utils.clip_grad_norm_(parameters, config.max_grad_norm)
        for optimizer in both:
            optimizer.step()
            optimizer.zero_grad()
        with torch.no_grad():
            torch._foreach_lerp_(ema, [p.detach() for p in parameters], 1 - config.ema(step))
        if metrics is None:  # another process writes
            continue
        done = step + 1
        report.add({"loss": loss, "grad_norm": norm, **extra}, done)
        if done % config.save_every == 0 or done == config.num_steps:
            _save(checkpoint, config, done, report.seconds(), parameters, ema, both)
        if done in config.keep:
            _save_averages(kept_weights(folder, done), ema)
        if done % config.sheet_every == 0 or done == config.num_steps:
            _write_sheet(task, parameters, ema, folder / f"sheet-{done:06d}.png")
            report.last_logged = time.perf_counter()

    _swap(parameters, ema)
    return model.eval()


class _Report:
    """The numbers of the steps since the last line of the log, and the line."""

    def __init__(
        self,
        name: str,
        config: LoopConfig,
        log: Log,
        metrics: MetricsLog | None,
        peak: float,
        ranks: int,
        spent: float,
    ) -> None:
        self.name, self.config, self.log, self.metrics = name, config, log, metrics
        self.peak, self.ranks = peak, ranks  # FLOP/s of a matrix product here; processes
        self.spent = spent  # seconds before this run resumed
        self.flops_per_step = math.nan
        self.began = self.last_logged = time.perf_counter()
        self.sums: dict[str, Tensor] = {}
        self.since = 0

    def seconds(self) -> float:
        """Of training, those before a resume too."""
        return self.spent + time.perf_counter() - self.began

    def add(self, values: dict[str, Tensor], done: int) -> None:
        """Adds the numbers of a step; every `log_every` steps, and after the last, writes their means.

        Raises FloatingPointError where the mean loss is not finite.
        """
        for key, value in values.items():
            self.sums[key] = self.sums.get(key, 0) + value.detach()
        self.since += 1
        if done % self.config.log_every == 0 or done == self.config.num_steps:
            self._write(done)

    def _write(self, done: int) -> None:
        assert self.metrics is not None
        now, config = time.perf_counter(), self.config
        per_step = (now - self.last_logged) / self.since
        means = {key: float(value) / self.since for key, value in self.sums.items()}
        if not math.isfinite(means["loss"]):
            raise FloatingPointError(f"{self.name}: the loss is {means['loss']} at step {done}; lower the rate")
        rate = self.flops_per_step / per_step
        self.metrics.write(
            step=done, **means, learning_rate=config.rate(done - 1), seconds_per_step=per_step,
            seconds=self.spent + now - self.began, flops_per_second=self.ranks * rate,
            share_of_matmul_rate=rate / self.peak,
        )  # fmt: skip
        left = (config.num_steps - done) * per_step
        self.log(
            f"{self.name} {done}/{config.num_steps}  "
            + "  ".join(f"{key} {value:.4g}" for key, value in means.items())
            + f"  {per_step:.2f} s/step  {rate / 1e9:.0f} GFLOP/s"
            + f" ({100 * rate / self.peak:.0f} % of matmul)  {left / 60:.0f} min left"
        )
        self.sums, self.since, self.last_logged = {}, 0, now


class MetricsLog:
    """`metrics.jsonl`: one JSON object a line. Lines past a resumed step are dropped."""

    def __init__(self, path: Path, keep_below: int) -> None:
        self.path = path
        if path.exists():
            kept = [line for line in path.read_text().splitlines() if _step_of(line) <= keep_below]
            write_text(path, "".join(line + "\n" for line in kept))

    def write(self, **values: float) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(values) + "\n")


def matmul_flops_per_second(device: torch.device, dtype: torch.dtype, size: int = 2048) -> float:
    """What a square matrix product reaches here: the yardstick for every FLOP/s printed."""
    a = torch.randn(size, size, device=device).to(dtype)
    best = math.inf
    for _ in range(4):
        _synchronize(device)
        start = time.perf_counter()
        a @ a
        _synchronize(device)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def write_text(path: Path, text: str) -> None:
    """Writes a text file, all or nothing."""
    write_atomic(path, text)


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError):  # a line cut short by a kill
        return math.inf


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _counted_step(task: Task, batch: Batch, noise: torch.Generator) -> tuple[Tensor, dict[str, Tensor], float]:
    """One forward and backward pass whose FLOPs torch counts, once per run."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        loss, extra = task.loss(batch, noise)
        loss.backward()
    return loss, extra, float(counter.get_total_flops())


def _save(
    path: Path,
    config: LoopConfig,
    step: int,
    seconds: float,
    parameters: list[Tensor],
    ema: list[Tensor],
    both: list[torch.optim.Optimizer],
) -> None:
    from safetensors.torch import save_file

    tensors = {}
    for index, (parameter, averaged) in enumerate(zip(parameters, ema, strict=True)):
        tensors[f"{index}.weight"] = parameter.detach().contiguous()
        tensors[f"{index}.ema"] = averaged.contiguous()
        for optimizer in both:
            for name in optimizer.state.get(parameter, {}):  # none for what had no part yet, as time in single frames
                tensors[f"{index}.{name}"] = optimizer.state[parameter][name].contiguous()
    header = {"step": str(step), "seconds": str(seconds), "config": json.dumps(asdict(config))}
    with atomic(path) as temporary:
        save_file(tensors, temporary, metadata=header)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())


def kept_weights(folder: Path, step: int) -> Path:
    """Where a run keeps the averaged weights of a step."""
    return folder / f"weights-{step:06d}.safetensors"


def _save_averages(path: Path, ema: list[Tensor]) -> None:
    from safetensors.torch import save_file

    with atomic(path) as temporary:
        save_file({f"{index}.ema": averaged.contiguous() for index, averaged in enumerate(ema)}, temporary)


def load_averages(path: Path, model: nn.Module) -> None:
    """Puts averaged weights that a run kept into the network that it trained."""
    from safetensors.torch import load_file

    tensors = load_file(path)
    with torch.no_grad():
        for index, parameter in enumerate(p for p in model.parameters() if p.requires_grad):
            parameter.copy_(tensors[f"{index}.ema"])


def _resume(
    path: Path,
    config: LoopConfig,
    parameters: list[Tensor],
    ema: list[Tensor],
    both: list[torch.optim.Optimizer],
) -> tuple[int, float]:
    """Puts the checkpoint's tensors in place; returns the steps done and the seconds they took."""
    if not path.exists():
        return 0, 0.0
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        header, names = file.metadata(), set(file.keys())
        step = int(header["step"])
        for index, (parameter, averaged) in enumerate(zip(parameters, ema, strict=True)):
            with torch.no_grad():
                parameter.copy_(file.get_tensor(f"{index}.weight"))
                averaged.copy_(file.get_tensor(f"{index}.ema"))
            for optimizer in both:
                kept = [key for key in STATE[type(optimizer)] if f"{index}.{key}" in names]
                if (
                    kept
                ):  # moments lie in memory as their parameter does, so that a resumed run repeats the straight one
                    values = {key: file.get_tensor(f"{index}.{key}") for key in kept}
                    optimizer.state[parameter] = {
                        key: torch.empty_like(parameter).copy_(value) if value.ndim else value.to(parameter.device)
                        for key, value in values.items()
                    }
    return min(step, config.num_steps), float(header["seconds"])


def _swap(parameters: list[Tensor], ema: list[Tensor]) -> None:
    with torch.no_grad():
        for parameter, averaged in zip(parameters, ema, strict=True):
            kept = parameter.detach().clone()
            parameter.copy_(averaged)
            averaged.copy_(kept)


def _write_sheet(task: Task, parameters: list[Tensor], ema: list[Tensor], path: Path) -> None:
    """A sample sheet from the averaged weights; training goes on from the weights as they were."""
    _swap(parameters, ema)
    task.model.eval()
    with torch.no_grad():
        picture = task.sheet(task.model)
    task.model.train()
    _swap(parameters, ema)
    if picture is not None:
        from PIL import Image

        with atomic(path) as temporary:
            Image.fromarray(np.ascontiguousarray(picture, np.uint8)).save(temporary, "PNG")
