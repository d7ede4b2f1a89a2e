"""Schedules against diffusers' and against their definition."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sorano.sampling.schedule import (
    SCHEDULES,
    euler_schedule,
    read_scheduler_config,
    scheduler_config,
    shifted,
    unipc_schedule,
)

STEPS = (1, 2, 3, 4, 7, 10, 24, 50)
SHIFTS = (1.0, 3.0, 5.0, 16.0)


def stock_scheduler(name: str, shift: float) -> Any:
    diffusers = pytest.importorskip("diffusers")
    if name == "euler":
        return diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    return diffusers.UniPCMultistepScheduler.from_config(scheduler_config(shift))


@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("name", SCHEDULES)
def test_sigmas_and_timesteps_equal_diffusers_to_the_bit(name: str, shift: float) -> None:
    stock = stock_scheduler(name, shift)
    for num_steps in STEPS:
        stock.set_timesteps(num_steps)
        ours = SCHEDULES[name](num_steps, shift)
        assert ours.sigmas == stock.sigmas.tolist()
        assert ours.timesteps == stock.timesteps.double().tolist()
        assert ours.num_steps == num_steps


@pytest.mark.parametrize("name", SCHEDULES)
def test_sigmas_fall_from_one_to_zero(name: str) -> None:
    schedule = SCHEDULES[name](24, 5.0)
    assert schedule.sigmas[0] == pytest.approx(1, abs=2e-6)
    assert schedule.sigmas[-1] == 0
    assert all(a > b for a, b in zip(schedule.sigmas[:-1], schedule.sigmas[1:], strict=True))


def test_unipc_tells_the_network_whole_timesteps() -> None:
    assert unipc_schedule(4, 3.0).timesteps == [999.0, 900.0, 750.0, 500.0]
    assert unipc_schedule(4, 3.0).timestep(unipc_schedule(4, 3.0).sigmas[2]) == 750.0
    assert unipc_schedule(4, 3.0).timestep(0.125) == 125.0  # not on the schedule


def test_a_shift_moves_noise_levels_up_and_leaves_the_ends() -> None:
    assert shifted(0.0, 5.0) == 0
    assert shifted(1.0, 5.0) == 1
    assert shifted(0.5, 3.0) == 0.75
    assert shifted(shifted(0.3, 4.0), 0.25) == pytest.approx(0.3)


@pytest.mark.parametrize("make", [unipc_schedule, euler_schedule])
def test_absurd_settings_are_refused(make: Any) -> None:
    with pytest.raises(ValueError, match="num_steps"):
        make(0)
    with pytest.raises(ValueError, match="shift"):
        make(4, 0.0)


def test_a_scheduler_config_is_read_back() -> None:
    assert read_scheduler_config(scheduler_config(5.0)) == ("unipc", 5.0)
    assert read_scheduler_config({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 7.0}) == ("euler", 7.0)


def test_the_config_that_diffusers_writes_is_read(tmp_path: Any) -> None:
    for name in SCHEDULES:
        stock = stock_scheduler(name, 3.0)
        assert read_scheduler_config({"_class_name": type(stock).__name__, **stock.config}) == (name, 3.0)


@pytest.mark.parametrize(
    "config",
    [
        {"_class_name": "DDIMScheduler"},
        {"_class_name": "UniPCMultistepScheduler"},
        {**scheduler_config(), "solver_order": 3},
        {**scheduler_config(), "use_flow_sigmas": False},
        {"_class_name": "FlowMatchEulerDiscreteScheduler", "use_dynamic_shifting": True},
    ],
)
def test_a_scheduler_that_would_give_other_numbers_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="DDIM|prediction_type|solver_order|use_flow_sigmas|use_dynamic_shifting"):
        read_scheduler_config(config)


def test_sigmas_are_plain_floats() -> None:
    assert all(type(sigma) is float for sigma in euler_schedule(5, 3.0).sigmas + unipc_schedule(5, 3.0).sigmas)
    assert torch.tensor(unipc_schedule(5).sigmas).double().tolist() == unipc_schedule(5).sigmas  # float32 values
