"""Solvers of dx/dsigma = velocity(x, sigma), from sigma 1 (noise) down to 0 (data).

Each is a generator over (velocity, x, sigmas) that yields (sigma, x) after every step; what it remembers lives in its
local variables. Step by step, they equal diffusers' schedulers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

from torch import Tensor

Velocity = Callable[[Tensor, float], Tensor]
Solver = Callable[[Velocity, Tensor, Sequence[float]], Iterator[tuple[float, Tensor]]]


def euler(velocity: Velocity, x: Tensor, sigmas: Sequence[float]) -> Iterator[tuple[float, Tensor]]:
    """Euler's method, first order: one evaluation per step."""
    for sigma, sigma_next in pairwise(sigmas):
        x = x + (sigma_next - sigma) * velocity(x, sigma)
        yield sigma_next, x


def unipc(velocity: Velocity, x: Tensor, sigmas: Sequence[float]) -> Iterator[tuple[float, Tensor]]:
    """UniPC-2 (Zhao et al. 2023, arXiv:2302.04867) in its B2(h), data-predicting form: one evaluation per step.

    Works on predictions of the data, m = x - sigma * velocity, and integrates them exactly against the noise level in
    lambda = log((1 - sigma) / sigma). Each evaluation first corrects the step that led to it, then predicts the next.
    The last step is first order, as its lambda is infinite. `sigmas[0]` must be below 1.
    """
    num_steps = len(sigmas) - 1
    seen: list[tuple[float, Tensor]] = []  # (lambda, m) at every sigma so far
    start, order = x, 0
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        m = x - sigma * velocity(x, sigma)
        if i > 0:
            x = _corrected(start, sigmas[i - 1], sigma, seen, m, order)
        seen = [*seen[-1:], (_lambda(sigma), m)]
        start, order = x, min(2, i + 1, num_steps - i)
        x = _predicted(start, sigma, sigma_next, seen, order)
        yield sigma_next, x


SOLVERS: dict[str, Solver] = {"unipc": unipc, "euler": euler}


def _lambda(sigma: float) -> float:
    return math.inf if sigma == 0 else math.log1p(-sigma) - math.log(sigma)


def _predicted(x: Tensor, sigma: float, sigma_next: float, seen: list[tuple[float, Tensor]], order: int) -> Tensor:
    """UniP-`order`: from `sigma` to `sigma_next` with the data predictions `seen` (the last one at `sigma`)."""
    lambda_0, m0 = seen[-1]
    h = _lambda(sigma_next) - lambda_0
    b = math.expm1(-h)  # B(h) = e^-h - 1 for data prediction; h may be infinite
    x_next = sigma_next / sigma * x - (1 - sigma_next) * b * m0
    if order == 2:
        lambda_1, m1 = seen[-2]
        slope = (m1 - m0) / ((lambda_1 - lambda_0) / h)
        x_next = x_next - (1 - sigma_next) * b * 0.5 * slope
    return x_next


def _corrected(
    x: Tensor, sigma: float, sigma_next: float, seen: list[tuple[float, Tensor]], m_next: Tensor, order: int
) -> Tensor:
    """UniC-`order`: the same step again, now that the data prediction at its end, `m_next`, is known."""
    lambda_0, m0 = seen[-1]
    h = _lambda(sigma_next) - lambda_0
    b = math.expm1(-h)
    x_next = sigma_next / sigma * x - (1 - sigma_next) * b * m0
    if order == 1:
        return x_next - (1 - sigma_next) * b * 0.5 * (m_next - m0)
    lambda_1, m1 = seen[-2]
    ratio = (lambda_1 - lambda_0) / h
    # Weights of the two differences: solve [[1, 1], [ratio, 1]] w = [phi_2, 2 phi_3] / B, Eq. 10 of the paper.
    phi_2 = b / -h - 1
    phi_3 = phi_2 / -h - 0.5
    right_1, right_2 = phi_2 / b, 2 * phi_3 / b
    weight_1 = (right_1 - right_2) / (1 - ratio)
    weight_2 = right_1 - weight_1
    return x_next - (1 - sigma_next) * b * (weight_1 * (m1 - m0) / ratio + weight_2 * (m_next - m0))
