"""Guidance: one batch, the formula, and its neutral value."""

from __future__ import annotations

from typing import Any

import tiny
import torch
from torch import Tensor

from sorano.sampling.denoise import denoise
from sorano.sampling.guidance import classifier_free
from sorano.sampling.schedule import unipc_schedule


def test_both_branches_run_in_one_batch_and_combine() -> None:
    batches: list[int] = []

    def velocity(x: Tensor, sigma: float) -> Tensor:
        batches.append(x.shape[0])
        prompted, plain = x.chunk(2)
        return torch.cat([prompted * sigma, plain - 1])

    x = tiny.latent(3)
    found = classifier_free(velocity, 4.0)(x, 0.5)
    assert batches == [6]
    torch.testing.assert_close(found, (x - 1) + 4.0 * (x * 0.5 - (x - 1)))


def test_guidance_one_is_the_prompts_own_velocity() -> None:
    x = tiny.latent(2)
    velocity = lambda x, sigma: torch.cat([x[:2].cos(), x[2:].sin()])  # noqa: E731
    torch.testing.assert_close(classifier_free(velocity, 1.0)(x, 0.5), x.cos())


def test_branches_one_after_the_other_give_what_both_in_one_batch_give() -> None:
    text, schedule = tiny.text((7, 4)), unipc_schedule(4, 3.0)
    settings: dict[str, Any] = {"negative_text": text[1:], "guidance": 4.0}
    together, apart = (
        list(denoise(tiny.transformer(), tiny.latent(1), text[:1], schedule, branches_together=so, **settings))[-1]
        for so in (True, False)
    )
    assert tiny.error(apart.latent, together.latent) < 1e-5
