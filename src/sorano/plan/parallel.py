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


def network_rate(device: Device, count: int, *, link_share: float, nic_bytes_per_second: float) -> float:
    """Bytes a second that a device exchanges with `count` - 1 others: by its own links as far as those reach, and by
    its network card beyond, which is no faster than the way to it."""
    own = device.link_bytes_per_second * link_share
    return own if count <= device.link_devices else min(own, nic_bytes_per_second)


def gather_seconds(sent: float, device: Device, count: int, *, link_share: float, nic_bytes_per_second: float) -> float:
    """Seconds in which every one of `count` devices has received the same bytes: rings that cross from node to node by
    another card each, so that a card carries its share of a node's bytes, and the links inside carry all of them."""
    inside = sent / (device.link_bytes_per_second * link_share)
    if count <= device.link_devices:
        return inside
    between = sent / (device.link_devices * nic_bytes_per_second)
    return max(inside, between)


def exchange_seconds(
    model: Costed, tokens: int, split: Split, device: Device, *, link_share: float, nic_bytes_per_second: float
) -> float:
    """Seconds of a forward pass spent on Ulysses' exchange, none of which is hidden."""
    rate = network_rate(device, split.ulysses, link_share=link_share, nic_bytes_per_second=nic_bytes_per_second)
    return ulysses_bytes(tokens, model.width, model.layers, split.ulysses) / rate


def ring_exposed_seconds(
    model: Costed,
    tokens: int,
    split: Split,
    device: Device,
    attention_seconds: float,
    *,
    link_share: float,
    nic_bytes_per_second: float,
) -> float:
    """What of a ring's exchange is longer than the attention (of one forward pass, on one device) that hides it."""
    if split.ring == 1:
        return 0.0
    rate = network_rate(
        device, split.ulysses * split.ring, link_share=link_share, nic_bytes_per_second=nic_bytes_per_second
    )
    sent = ring_bytes(tokens // split.ulysses, model.width, model.layers, split.ring) / rate
    return max(0.0, sent - attention_seconds)


def shared(seconds: float, serial: float, count: int) -> float:
    """Seconds of work on `count` devices where a share `serial` of it is not divided (Amdahl 1967)."""
    return seconds * (serial + (1 - serial) / count)


def young_daly(failure_seconds: float, checkpoint_seconds: float) -> tuple[float, float]:
    """The best time between checkpoints, and the share of time then lost to writing them and to work done again
    (Young 1974, Daly 2006). `failure_seconds`: mean time between failures of the whole machine."""
    every = math.sqrt(2 * checkpoint_seconds * failure_seconds)
    return every, checkpoint_seconds / every + every / (2 * failure_seconds)


def kept_share(failure_seconds: float, checkpoint_seconds: float) -> float:
    """The share of time left for work by `young_daly`'s time between checkpoints, where failures come one by one, each
    at any moment (Daly 2006, without the restart itself): above 0 where the first-order loss would be more than all."""
    every, _ = young_daly(failure_seconds, checkpoint_seconds)
    exponent = min(700.0, (every + checkpoint_seconds) / failure_seconds)  # beyond, a float overflows
    return every / (failure_seconds * math.expm1(exponent))
