"""The reference implementations, as the tests want them."""

from typing import Any

import pytest

from sorano.sampling.schedule import scheduler_config


def stock_scheduler(name: str, shift: float) -> Any:
    diffusers = pytest.importorskip("diffusers")
    if name == "euler":
        return diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    return diffusers.UniPCMultistepScheduler.from_config(scheduler_config(shift))
