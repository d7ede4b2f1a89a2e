"""Guidance wraps a velocity and leaves the solver alone."""

from __future__ import annotations

import torch
from torch import Tensor

from sorano.sampling.solver import Velocity


def classifier_free(velocity: Velocity, guidance: float) -> Velocity:
    """Push the velocity away from what it would be without the prompt (Ho and Salimans 2022, arXiv:2207.12598).

    `velocity` must take a doubled batch, the first half with the prompt and the second without (or with the negative
    prompt): both branches run in one batch. At `guidance` 1 the result is the prompt's own velocity.
    """

    def guided(x: Tensor, sigma: float) -> Tensor:
        prompted, plain = velocity(torch.cat([x, x]), sigma).chunk(2)
        return plain + guidance * (prompted - plain)

    return guided


def classifier_free_apart(prompted: Velocity, plain: Velocity, guidance: float) -> Velocity:
    """The same of two velocities, one after the other: half the memory, and as fast where one fills the device."""

    def guided(x: Tensor, sigma: float) -> Tensor:
        without = plain(x, sigma)
        return without + guidance * (prompted(x, sigma) - without)

    return guided
