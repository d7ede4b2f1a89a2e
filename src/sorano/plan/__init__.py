"""What a request will cost, before any work is done. Nothing here imports torch."""

from sorano.plan.generate import Estimate, decode_chunk, estimate_generate
from sorano.plan.machine import Machine, free_memory_bytes
from sorano.plan.model import ModelConfigs

__all__ = ["Estimate", "Machine", "ModelConfigs", "decode_chunk", "estimate_generate", "free_memory_bytes"]
