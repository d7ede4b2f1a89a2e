"""Schedules against diffusers' and against their definition."""

from __future__ import annotations

import inspect
import json
from typing import Any

import pytest
import torch
from support.references import stock_scheduler

from sorano.presets import WEIGHTS
from sorano.sampling.schedule import (
    _IDLE,
    _REQUIRED,
    _SHIFT_FIELD,
    SCHEDULES,
    euler_schedule,
    read_scheduler_config,
    scheduler_config,
    shifted,
    unipc_schedule,
)

STEPS = (1, 2, 3, 4, 7, 10, 24, 50)
SHIFTS = (1.0, 3.0, 5.0, 16.0)


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


OFFICIAL = {  # of the hub's folders of the Wan family
    "_class_name": "UniPCMultistepScheduler", "_diffusers_version": "0.35.0.dev0", "beta_end": 0.02,
    "beta_schedule": "linear", "beta_start": 0.0001, "disable_corrector": [], "dynamic_thresholding_ratio": 0.995,
    "final_sigmas_type": "zero", "flow_shift": 3.0, "lower_order_final": True, "num_train_timesteps": 1000,
    "predict_x0": True, "prediction_type": "flow_prediction", "rescale_betas_zero_snr": False, "sample_max_value": 1.0,
    "sigma_max": None, "sigma_min": None, "shift_terminal": None, "solver_order": 2, "solver_p": None,
    "solver_type": "bh2", "steps_offset": 0, "thresholding": False, "time_shift_type": "exponential",
    "timestep_spacing": "linspace", "trained_betas": None, "use_beta_sigmas": False, "use_dynamic_shifting": False,
    "use_exponential_sigmas": False, "use_flow_sigmas": True, "use_karras_sigmas": False,
}  # fmt: skip
EULER = {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 7.0}


def test_the_official_and_the_embedded_schedulers_are_read() -> None:
    assert read_scheduler_config(OFFICIAL) == ("unipc", 3.0)
    embedded = WEIGHTS / "world" / "scheduler" / "scheduler_config.json"
    assert read_scheduler_config(json.loads(embedded.read_text()))[0] == "unipc"


def test_what_another_scheduler_left_in_the_file_is_passed_over() -> None:
    diffusers = pytest.importorskip("diffusers")
    euler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    flow = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 5.0}
    stock = diffusers.UniPCMultistepScheduler.from_config(euler.config, **flow)
    assert read_scheduler_config({**stock.config, "_class_name": type(stock).__name__}) == ("unipc", 5.0)


OTHERS = {
    "num_train_timesteps": 500, "prediction_type": "v_prediction", "use_flow_sigmas": False, "solver_order": 3,
    "solver_type": "bh1", "predict_x0": False, "lower_order_final": False, "disable_corrector": [0], "solver_p": {},
    "final_sigmas_type": "sigma_min", "timestep_spacing": "trailing", "thresholding": True,
    "rescale_betas_zero_snr": True, "use_dynamic_shifting": True, "shift_terminal": 0.1, "use_karras_sigmas": True,
    "use_exponential_sigmas": True, "use_beta_sigmas": True, "flow_shift": None, "sigma_data": 0.5,
}  # fmt: skip
EULER_OTHERS = {
    "num_train_timesteps": 500, "use_dynamic_shifting": True, "shift_terminal": 0.1, "invert_sigmas": True,
    "stochastic_sampling": True, "use_karras_sigmas": True, "use_exponential_sigmas": True, "use_beta_sigmas": True,
    "shift": "3", "sigma_data": 0.5,
}  # fmt: skip


@pytest.mark.parametrize(
    ("config", "field", "value"),
    [
        *((OFFICIAL, field, value) for field, value in OTHERS.items()),
        *((EULER, field, value) for field, value in EULER_OTHERS.items()),
        (OFFICIAL, "_class_name", "DPMSolverMultistepScheduler"),
        (OFFICIAL, "flow_shift", 0),
    ],
)
def test_a_scheduler_that_would_give_other_numbers_is_refused(config: dict[str, Any], field: str, value: Any) -> None:
    with pytest.raises(ValueError) as caught:
        read_scheduler_config({**config, field: value})
    assert (field in str(caught.value) or field == "_class_name") and str(value) in str(caught.value)


@pytest.mark.parametrize("field", ["prediction_type", "use_flow_sigmas"])
def test_what_diffusers_takes_for_an_absent_field_is_refused_where_it_is_not_ours(field: str) -> None:
    with pytest.raises(ValueError, match=field):
        read_scheduler_config({name: value for name, value in OFFICIAL.items() if name != field})


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_setting_of_the_stock_scheduler_is_known(name: str) -> None:
    stock = stock_scheduler(name, 3.0)
    known = {*_REQUIRED[name], *_IDLE, _SHIFT_FIELD[name]}
    assert set(inspect.signature(type(stock).__init__).parameters) - {"self"} <= known


def test_sigmas_are_plain_floats() -> None:
    assert all(type(sigma) is float for sigma in euler_schedule(5, 3.0).sigmas + unipc_schedule(5, 3.0).sigmas)
    assert torch.tensor(unipc_schedule(5).sigmas).double().tolist() == unipc_schedule(5).sigmas  # float32 values
