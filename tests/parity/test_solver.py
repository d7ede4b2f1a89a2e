"""Solvers on fields whose answer is known, and step by step against diffusers'."""

from __future__ import annotations

import math

import pytest
import tiny
import torch
from support.references import stock_scheduler
from torch import Tensor

from sorano.sampling.schedule import SCHEDULES
from sorano.sampling.solver import SOLVERS, Solver, euler, unipc

ORDERS = {"euler": 1, "unipc": 2}


def _uniform(num_steps: int, start: float = 0.9, stop: float = 0.1) -> list[float]:
    return torch.linspace(start, stop, num_steps + 1, dtype=torch.float64).tolist()


def _last(solver: Solver, velocity, x: Tensor, sigmas: list[float]) -> Tensor:  # type: ignore[no-untyped-def]
    return list(solver(velocity, x, sigmas))[-1][1]


@pytest.mark.parametrize("name", SOLVERS)
def test_data_that_is_one_point_is_reached_exactly(name: str) -> None:
    """All data at one point: velocity = (x - data) / sigma, a straight line from the noise to it."""
    data, noise = tiny.latent(1).double(), tiny.latent(1, seed=9).double()
    schedule = SCHEDULES[name](3, 5.0)
    start = (1 - schedule.sigmas[0]) * data + schedule.sigmas[0] * noise
    path = list(SOLVERS[name](lambda x, sigma: (x - data) / sigma, start, schedule.sigmas))
    for sigma, x in path:
        torch.testing.assert_close(x, (1 - sigma) * data + sigma * noise)
    assert [sigma for sigma, _ in path] == schedule.sigmas[1:]


def _gaussian_velocity(x: Tensor, sigma: float, std: float = 0.3) -> Tensor:
    """Gaussian data N(0, std^2): velocity = E[noise - data | x]."""
    variance = ((1 - sigma) * std) ** 2 + sigma**2
    return x * (sigma - (1 - sigma) * std**2) / variance


def _gaussian_answer(x: Tensor, sigma: float, stop: float, std: float = 0.3) -> Tensor:
    """The flow scales x by the ratio of the marginal standard deviations."""
    return x * math.sqrt((((1 - stop) * std) ** 2 + stop**2) / (((1 - sigma) * std) ** 2 + sigma**2))


@pytest.mark.parametrize("name", SOLVERS)
def test_error_falls_with_the_solvers_order(name: str) -> None:
    x = torch.ones(1, 1, 1, 1, 1, dtype=torch.float64)
    errors = []
    for num_steps in (20, 40, 80):
        found = _last(SOLVERS[name], _gaussian_velocity, x, _uniform(num_steps))
        errors.append(float((found - _gaussian_answer(x, 0.9, 0.1)).abs()))
    for coarse, fine in zip(errors[:-1], errors[1:], strict=True):
        assert math.log2(coarse / fine) > ORDERS[name] - 0.15


def test_unipc_is_far_more_accurate_than_euler_for_the_same_evaluations() -> None:
    x = torch.ones(1, 1, 1, 1, 1, dtype=torch.float64)
    answer = _gaussian_answer(x, 0.9, 0.1)
    errors = {
        name: float((_last(solver, _gaussian_velocity, x, _uniform(20)) - answer).abs())
        for name, solver in SOLVERS.items()
    }
    assert errors["unipc"] < errors["euler"] / 5


@pytest.mark.parametrize("name", SOLVERS)
def test_one_evaluation_per_step(name: str) -> None:
    calls: list[float] = []

    def velocity(x: Tensor, sigma: float) -> Tensor:
        calls.append(sigma)
        return x

    schedule = SCHEDULES[name](6, 3.0)
    list(SOLVERS[name](velocity, tiny.latent(1), schedule.sigmas))
    assert calls == schedule.sigmas[:-1]


@pytest.mark.parametrize("shift", [1.0, 5.0, 16.0])
@pytest.mark.parametrize("num_steps", [1, 2, 3, 10, 24])
@pytest.mark.parametrize("name", SOLVERS)
def test_every_step_equals_diffusers(name: str, num_steps: int, shift: float) -> None:
    stock, ours = stock_scheduler(name, shift), SCHEDULES[name](num_steps, shift)
    mix = torch.randn(16, 16, generator=torch.Generator().manual_seed(1)) * 0.3

    def velocity(x: Tensor, sigma: float) -> Tensor:
        return torch.tanh(torch.einsum("ij,bjthw->bithw", mix, x)) * (1 + sigma)

    stock.set_timesteps(num_steps)
    x = tiny.latent()
    path = [latent for _, latent in SOLVERS[name](velocity, x, ours.sigmas)]
    for timestep, sigma, found in zip(stock.timesteps, ours.sigmas, path, strict=False):
        x = stock.step(velocity(x, sigma), timestep, x, return_dict=False)[0]
        assert tiny.error(found, x) < 1e-6


def test_the_state_lives_in_the_generator() -> None:
    """Two runs side by side do not disturb each other."""
    sigmas = SCHEDULES["unipc"](5, 3.0).sigmas
    runs = [unipc(_gaussian_velocity, tiny.latent(1, seed=seed), sigmas) for seed in (1, 2)]
    together = list(zip(*runs, strict=True))
    for index, seed in enumerate((1, 2)):
        alone = list(unipc(_gaussian_velocity, tiny.latent(1, seed=seed), sigmas))
        assert all(torch.equal(pair[index][1], step[1]) for pair, step in zip(together, alone, strict=True))


def test_euler_is_a_generator_that_can_be_left_early() -> None:
    steps = euler(_gaussian_velocity, tiny.latent(1), SCHEDULES["euler"](50).sigmas)
    assert next(steps)[0] == SCHEDULES["euler"](50).sigmas[1]
    steps.close()  # type: ignore[attr-defined]
