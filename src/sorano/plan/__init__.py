"""What a request will cost, before any work is done. Nothing here imports torch."""

from importlib import import_module
from typing import Any

from sorano.models.wan.configs import ModelConfigs
from sorano.plan.generate import RunEstimate, estimate_generate
from sorano.plan.machine import Machine, Profile, free_memory_bytes
from sorano.plan.memory import Placement, branches_together, decode_chunk

_LAZY = {  # answers, imported when they are asked for
    "plan_generate": "inference",
    "plan_train": "training",
    "plan_serve": "serving",
    "plan_edge": "edge",
    "explain": "claims",
    "compare": "estimate",
    "Estimate": "estimate",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)


__all__ = [
    *_LAZY,
    "RunEstimate",
    "Machine",
    "ModelConfigs",
    "Placement",
    "Profile",
    "branches_together",
    "decode_chunk",
    "estimate_generate",
    "free_memory_bytes",
]
