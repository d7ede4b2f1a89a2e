"""Noise levels to sample at.

The convention, everywhere in Sorano: `sigma` falls from 1 (noise) to 0 (data);
`x = (1 - sigma) * data + sigma * noise`; `velocity = noise - data`, so `x` follows dx/dsigma = velocity. The network
is told `timestep = sigma * 1000`.

A schedule is two plain lists: the sigmas, and the timestep that the network is told at each but the last. They equal
what diffusers' schedulers of the same name compute, down to their rounding (UniPC's timesteps are whole numbers).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

NUM_TRAIN_TIMESTEPS = 1000


@dataclass(frozen=True)
class Schedule:
    """`sigmas` has num_steps + 1 values and ends in 0; `timesteps` has num_steps."""

    sigmas: list[float]
    timesteps: list[float]

    @property
    def num_steps(self) -> int:
        return len(self.timesteps)

    def beginning_at(self, sigma: float) -> Schedule:
        """The rest of the schedule from a noise level on: that level, then the sigmas below it."""
        later = [index for index in range(self.num_steps) if self.sigmas[index] < sigma]
        if len(later) == self.num_steps:
            return self
        sigmas = [sigma, *(self.sigmas[index] for index in later), 0.0]
        return Schedule(sigmas, [sigma * NUM_TRAIN_TIMESTEPS, *(self.timesteps[index] for index in later)])

    def timestep(self, sigma: float) -> float:
        """What the network is told at `sigma`: the schedule's own timestep if it is one of its sigmas."""
        for known, timestep in zip(self.sigmas, self.timesteps, strict=False):
            if known == sigma:
                return timestep
        return sigma * NUM_TRAIN_TIMESTEPS


def shifted(sigma: float, shift: float) -> float:
    """Move noise levels towards 1 (shift > 1), as larger videos need: Esser et al. 2024, arXiv:2403.03206, Eq. 23."""
    return shift * sigma / (1 + (shift - 1) * sigma)


def unipc_schedule(num_steps: int, shift: float = 1.0) -> Schedule:
    """The schedule of diffusers' `UniPCMultistepScheduler(use_flow_sigmas=True, flow_shift=shift)`."""
    _check(num_steps, shift)
    spaced = np.linspace(1, 1 / NUM_TRAIN_TIMESTEPS, num_steps + 1)[:-1]
    sigmas = [shifted(float(sigma), shift) for sigma in spaced]
    if abs(sigmas[0] - 1) < 1e-6:
        sigmas[0] -= 1e-6  # the solver takes the logarithm of 1 - sigma
    timesteps = [float(int(sigma * NUM_TRAIN_TIMESTEPS)) for sigma in sigmas]
    return Schedule([*_float32(sigmas), 0.0], timesteps)


def euler_schedule(num_steps: int, shift: float = 1.0) -> Schedule:
    """The schedule of diffusers' `FlowMatchEulerDiscreteScheduler(shift=shift)`, which shifts its last sigma twice."""
    _check(num_steps, shift)
    first = np.float32(1 / NUM_TRAIN_TIMESTEPS)
    last = np.float32(shift) * first / (1 + np.float32(shift - 1) * first)
    spaced = np.linspace(NUM_TRAIN_TIMESTEPS, float(last) * NUM_TRAIN_TIMESTEPS, num_steps)
    sigmas = _float32([shifted(float(t) / NUM_TRAIN_TIMESTEPS, shift) for t in spaced])
    timesteps = [float(np.float32(sigma) * np.float32(NUM_TRAIN_TIMESTEPS)) for sigma in sigmas]
    return Schedule([*sigmas, 0.0], timesteps)


SCHEDULES = {"unipc": unipc_schedule, "euler": euler_schedule}
"""Schedules by the name of the solver that they belong to (`sorano.sampling.solver.SOLVERS`)."""

_SOLVER_OF = {"UniPCMultistepScheduler": "unipc", "FlowMatchEulerDiscreteScheduler": "euler"}


def scheduler_config(shift: float = 1.0) -> dict[str, Any]:
    """The `scheduler_config.json` that makes stock pipelines sample as `unipc` does with this shift."""
    return {
        "_class_name": "UniPCMultistepScheduler",
        "prediction_type": "flow_prediction",
        "use_flow_sigmas": True,
        "flow_shift": shift,
        "num_train_timesteps": NUM_TRAIN_TIMESTEPS,
        "solver_order": 2,
        "solver_type": "bh2",
        "predict_x0": True,
        "lower_order_final": True,
        "final_sigmas_type": "zero",
        "timestep_spacing": "linspace",
    }


def read_scheduler_config(config: Mapping[str, Any]) -> tuple[str, float]:
    """The solver's name ("unipc" or "euler") and the shift of a `scheduler_config.json`.

    Raises ValueError for a scheduler whose numbers would differ from ours.
    """
    name = config.get("_class_name")
    if name not in _SOLVER_OF:
        raise ValueError(f"scheduler {name!r} is not one of {', '.join(_SOLVER_OF)}")
    solver = _SOLVER_OF[name]
    if solver == "euler":
        wanted: dict[str, Any] = {"use_dynamic_shifting": False, "invert_sigmas": False, "shift_terminal": None}
        shift = config.get("shift", 1.0)
    else:
        wanted = scheduler_config()
        del wanted["_class_name"], wanted["flow_shift"]
        defaults = {"prediction_type": "epsilon", "use_flow_sigmas": False}
        config = {**wanted, **defaults, **config}
        shift = config.get("flow_shift", 1.0)
    for key, value in wanted.items():
        if config.get(key, value) != value:
            raise ValueError(f"scheduler setting {key}={config[key]!r} is not supported, only {value!r}")
    return solver, float(shift)


def _float32(values: list[float]) -> list[float]:
    return [float(np.float32(value)) for value in values]


def _check(num_steps: int, shift: float) -> None:
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1: got {num_steps}")
    if shift <= 0:
        raise ValueError(f"shift must be greater than 0: got {shift}")
