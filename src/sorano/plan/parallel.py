"""Several devices for one job: what they exchange, what they cannot share out, and what that leaves of their speed.

Bytes are per device and forward pass, in 16 bits, for L layers of width D and s video tokens (b = 1):

    Ulysses, degree P    8 s D / P (P - 1) / P L     four all-to-all a layer; falls with P; P divides the heads
    ring, degree R       4 s D (R - 1) / R L         keys and values go round; does not fall, but hides behind attention
    FSDP                 2 P + 2 P + 4 P             gathered forward, gathered backward, gradients scattered (float32)

Sources: DeepSpeed Ulysses (arXiv:2309.14509), Ring Attention (arXiv:2310.01889), the Wan report (arXiv:2503.20314).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sorano.plan.flops import Costed
from sorano.plan.hardware import Device


@dataclass(frozen=True)
class Split:
    """How the tokens of one sample are shared out: Ulysses within a node, a ring between nodes (USP)."""

    ulysses: int
    ring: int

    @property
    def words(self) -> str:
        """As people say it."""
        parts = [f"Ulysses {self.ulysses}"] * (self.ulysses > 1) + [f"ring {self.ring}"] * (self.ring > 1)
        return " x ".join(parts) or "one device"


def split_tokens(count: int, heads: int, link_devices: int) -> Split:
    """The largest Ulysses degree that divides the heads and the devices and stays within fast links; a ring for the
    rest. `count` devices share one sample."""
    widest = max(d for d in range(1, count + 1) if count % d == 0 and heads % d == 0 and d <= max(1, link_devices))
    return Split(widest, count // widest)


def ulysses_bytes(tokens: int, width: int, layers: int, degree: int) -> float:
    """Bytes a device sends in a forward pass."""
    return 8 * tokens * width / degree * (degree - 1) / degree * layers


def ring_bytes(tokens: int, width: int, layers: int, degree: int) -> float:
    """Bytes a device sends in a forward pass."""
    return 4 * tokens * width * (degree - 1) / degree * layers


def fsdp_bytes(parameters: float, gradient_bytes: int = 4) -> float:
    """Bytes a device receives and sends in a training step."""
    return (2 + 2 + gradient_bytes) * parameters


def exchange_seconds(
    model: Costed, tokens: int, split: Split, device: Device, *, link_share: float, nic_bytes_per_second: float
) -> float:
    """Seconds of a forward pass that are spent on exchanging tokens and not hidden: all of Ulysses; of a ring what
    takes longer than nothing is hidden behind attention, so only its latency would count, and that is left out."""
    within = device.link_bytes_per_second if split.ulysses <= device.link_devices else nic_bytes_per_second
    return ulysses_bytes(tokens, model.width, model.layers, split.ulysses) / (within * link_share)


def ring_exposed_seconds(
    model: Costed, tokens: int, split: Split, attention_seconds: float, *, nic_bytes_per_second: float
) -> float:
    """What of a ring's exchange is longer than the attention (of one forward pass, on one device) that hides it."""
    if split.ring == 1:
        return 0.0
    sent = ring_bytes(tokens // split.ulysses, model.width, model.layers, split.ring) / nic_bytes_per_second
    return max(0.0, sent - attention_seconds)


def shared(seconds: float, serial: float, count: int) -> float:
    """Seconds of work on `count` devices where a share `serial` of it is not divided (Amdahl 1967)."""
    return seconds * (serial + (1 - serial) / count)


def pipeline_bubble(stages: int, micro_batches: int, interleaved: int = 1) -> float:
    """The share of a step that a pipeline stands still (1F1B; Narayanan et al., arXiv:2104.04473)."""
    if interleaved > 1:
        return (stages - 1) / (interleaved * micro_batches + stages - 1)
    return (stages - 1) / (micro_batches + stages - 1)


def young_daly(failure_seconds: float, checkpoint_seconds: float) -> tuple[float, float]:
    """The best time between checkpoints, and the share of time then lost to writing them and to work done again
    (Young 1974, Daly 2006). `failure_seconds`: mean time between failures of the whole machine."""
    every = math.sqrt(2 * checkpoint_seconds * failure_seconds)
    return every, checkpoint_seconds / every + every / (2 * failure_seconds)
