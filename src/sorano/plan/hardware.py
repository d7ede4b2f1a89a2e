"""Accelerators as the plan sees them, and how much of their peak this kind of work reaches."""

from __future__ import annotations

from dataclasses import dataclass

from sorano.errors import RequestError
from sorano.plan.assumptions import Assumption, Assumptions, find_name, nearest, number

GIGA = 1e9


@dataclass(frozen=True)
class Device:
    """A row of devices.csv. Rates are dense; links are one way; prices are dated and per device-hour on demand."""

    name: str
    title: str
    family: str
    flops_per_second: float  # bfloat16, float32 accumulation, no sparsity
    memory_bytes: int
    bytes_per_second: float  # of its memory
    watts: float | None
    link_bytes_per_second: float  # to its neighbours
    link_devices: int  # how many share such links
    price: Assumption | None  # USD an hour
    flops_per_second_8: float  # in int8 or float8, whichever is faster; where neither is known, as in bfloat16
    tag: str
    date: str
    source: str
    note: str


def find_device(assumptions: Assumptions, name: str, *, rated: bool = True) -> Device:
    """The device of this name ("h100", "RTX 4090", "h100-sxm"). Raises RequestError naming the nearest.

    One that must be `rated` has a rate of arithmetic: some vendors of phones publish none.
    """
    rows = assumptions.rows["devices"]
    key = find_name(rows, name)
    if key not in rows:
        near = nearest(key, rows)
        raise RequestError(f"there is no device {name!r}", f"the nearest is {near}; `sorano plan sources` prints all")
    row = rows[key]

    def cell(column: str, default: float | None = None) -> float:
        return number(row, column, "devices", default)

    price = None
    if row["usd_h"]:
        typical = cell("usd_h")
        low, high = cell("usd_h_low", typical), cell("usd_h_high", typical)
        known = (row[f"price_{column}"] for column in ("tag", "date", "source"))
        price = Assumption(f"price.{key}", typical, low, high, "USD/h", *known)
    int8 = cell("int8_tops", 0.0)
    rate = cell("bf16_tflops", 0.0) or int8 / 2
    if rated and not rate:
        raise RequestError(
            f"no arithmetic rate of {row['title']} is published",
            f"give one in a file of your own with --facts: [devices.{key}] and below it bf16_tflops",
        )
    return Device(
        name=key, title=row["title"], family=row["family"],
        flops_per_second=rate * 1e12, memory_bytes=round(cell("memory_gb") * GIGA),
        bytes_per_second=cell("bandwidth_gb_s") * GIGA, watts=cell("watts", 0.0) or None,
        link_bytes_per_second=cell("link_gb_s", 32.0) * GIGA, link_devices=int(cell("link_devices", 1.0)),
        price=price, flops_per_second_8=max(rate, int8, cell("fp8_tflops", 0.0)) * 1e12, tag=row["tag"],
        date=row["date"], source=row["source"], note=row["note"],
    )  # fmt: skip


@dataclass(frozen=True)
class Shares:
    """Which share of the peak attention, the rest of a transformer, and an autoencoder's decoder reach (0 to 1)."""

    attention: Assumption
    linear: Assumption
    decode: Assumption

    @property
    def assumptions(self) -> tuple[Assumption, ...]:
        """Each fact once."""
        return tuple(dict.fromkeys((self.attention, self.linear, self.decode)))


def inference_shares(assumptions: Assumptions, device: Device, stack: str | None = None) -> Shares:
    """Of a device with a software stack: "fa3" on Hopper tells attention from the rest, others know one number, which
    is called "one", or "fa2" where it was measured with FlashAttention-2.

    The default is the newest stack that was measured. Raises RequestError for a stack that nobody measured there.
    """
    family = device.family
    stacks = sorted(
        {name.split(".")[2] for name in assumptions.rows["constants"] if name.startswith(f"infer.{family}.")}
    )
    both = assumptions.constant(f"infer.{family}")
    known = ["one", *(["fa2"] if "FlashAttention-2" in both.note else []), *stacks]
    chosen = stack or ["one", *stacks][-1]
    if chosen not in known:
        raise RequestError(f"no stack {chosen!r} was measured on {device.title}", f"known are: {', '.join(known)}")
    decode = assumptions.constant("decode.share")
    if chosen in ("one", "fa2"):
        return Shares(both, both, decode)
    prefix = f"infer.{family}.{chosen}"
    return Shares(assumptions.constant(f"{prefix}.attention"), assumptions.constant(f"{prefix}.linear"), decode)


def training_share(assumptions: Assumptions, device: Device) -> Assumption:
    """Model FLOPs over peak while training, without recomputation."""
    return assumptions.constant(f"train.{device.family}")
