"""What a request will cost, before any work is done. Nothing here imports torch."""

from sorano.plan.generate import RunEstimate, estimate_generate
from sorano.plan.machine import Machine, free_memory_bytes
from sorano.plan.memory import Placement, branches_together, decode_chunk
from sorano.plan.model import ModelConfigs

__all__ = [
    "RunEstimate",
    "Machine",
    "ModelConfigs",
    "Placement",
    "branches_together",
    "decode_chunk",
    "estimate_generate",
    "free_memory_bytes",
]
