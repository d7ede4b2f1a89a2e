"""Noise levels to sample at.

The convention, everywhere in Sorano: `sigma` falls from 1 (noise) to 0 (data);
`x = (1 - sigma) * data + sigma * noise`; `velocity = noise - data`, so `x` follows dx/dsigma = velocity. The network
is told `timestep = sigma * 1000`.

A schedule is two plain lists: the sigmas, and the timestep that the network is told at each but the last. They equal
what diffusers' schedulers of the same name compute, down to their rounding (UniPC's timesteps are whole numbers).
"""

from __future__ import annotations

import math
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
_SHIFT_FIELD = {"unipc": "flow_shift", "euler": "shift"}

_ON_BOTH = {  # field of a scheduler_config.json: the value that ours has, and diffusers where a file lacks it
    "num_train_timesteps": NUM_TRAIN_TIMESTEPS,
    "use_dynamic_shifting": False,
    "shift_terminal": None,
    "use_karras_sigmas": False,
    "use_exponential_sigmas": False,
    "use_beta_sigmas": False,
}
_REQUIRED: dict[str, dict[str, Any]] = {
    "unipc": {
        **_ON_BOTH,
        "prediction_type": "flow_prediction",
        "use_flow_sigmas": True,
        "solver_order": 2,
        "solver_type": "bh2",
        "predict_x0": True,
        "lower_order_final": True,
        "disable_corrector": [],
        "solver_p": None,
        "final_sigmas_type": "zero",
        "timestep_spacing": "linspace",
        "thresholding": False,
        "rescale_betas_zero_snr": False,
    },
    "euler": {**_ON_BOTH, "invert_sigmas": False, "stochastic_sampling": False},
}
_WHERE_ABSENT = {"unipc": {"prediction_type": "epsilon", "use_flow_sigmas": False}, "euler": {}}  # not as ours
_IDLE = {  # fields that change nothing while those above are as they must be
    *("beta_start", "beta_end", "beta_schedule", "trained_betas", "steps_offset", "sigma_min", "sigma_max"),
    *("dynamic_thresholding_ratio", "sample_max_value"),
    *("base_shift", "max_shift", "base_image_seq_len", "max_image_seq_len", "time_shift_type"),
}


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

    Raises ValueError, naming the field, for a scheduler whose numbers would differ from ours. What belongs to the other
    one of the two is passed over, as diffusers does: it stays in a file when one scheduler is made from another.
    """
    name = str(config.get("_class_name"))
    if name not in _SOLVER_OF:
        raise ValueError(f"the scheduler {name} is not supported, only {' and '.join(_SOLVER_OF)}")
    solver = _SOLVER_OF[name]
    stated = {**_WHERE_ABSENT[solver], **config}
    for field, value in _REQUIRED[solver].items():
        if stated.get(field, value) != value:
            raise ValueError(f"{name}'s {field} is {stated[field]!r}, and only {value!r} is supported")
    known = {*_REQUIRED["unipc"], *_REQUIRED["euler"], *_SHIFT_FIELD.values(), *_IDLE}
    unknown = sorted(field for field in config if field not in known and not field.startswith("_"))
    if unknown:
        raise ValueError(f"{name}'s field {unknown[0]} is not known: it is {config[unknown[0]]!r}")
    shift = config.get(_SHIFT_FIELD[solver], 1.0)
    if isinstance(shift, bool) or not isinstance(shift, int | float) or not 0 < shift < math.inf:
        raise ValueError(f"{name}'s {_SHIFT_FIELD[solver]} is {shift!r}, not a number above 0")
    return solver, float(shift)


def _float32(values: list[float]) -> list[float]:
    return [float(np.float32(value)) for value in values]


def _check(num_steps: int, shift: float) -> None:
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1: got {num_steps}")
    if shift <= 0:
        raise ValueError(f"shift must be greater than 0: got {shift}")
