"""`sorano plan edge`: does a model fit a phone or a laptop, at how many bits, and how fast could it be at best.

Two floors: arithmetic (FLOPs over the rate that such work reaches) and bandwidth (every weight read once a pass).
"""

from __future__ import annotations

from sorano.errors import RequestError
from sorano.plan.estimate import Estimate, Range, Row, Table, unique
from sorano.plan.facts import Facts, load_facts
from sorano.plan.flops import PresetModel, find_model
from sorano.plan.generate import format_bytes
from sorano.plan.hardware import find_device
from sorano.plan.inference import make_job

USABLE = 0.6  # of a phone's memory that one app may take; the rest is the system's and other apps'


def plan_edge(
    model: str,
    *,
    device: str | None = None,
    memory_gb: float | None = None,
    bandwidth_gb_s: float | None = None,
    tops: float | None = None,
    size: str | None = None,
    seconds: float | None = None,
    num_steps: int | None = None,
    facts: Facts | None = None,
) -> Estimate:
    """Whether a model fits at 16, 8 and 4 bits, and the floors of making one video.

    `device` is a row of devices.csv; `memory_gb`, `bandwidth_gb_s` and `tops` stand in for it or override it.
    """
    facts = facts or load_facts()
    where = find_device(facts, device) if device else None
    if where is None and (memory_gb is None or bandwidth_gb_s is None):
        raise RequestError("say which device", "--device snapdragon-8-elite, or --memory 12 --bandwidth 85")
    for name, value in (("memory", memory_gb), ("bandwidth", bandwidth_gb_s), ("tops", tops)):
        if value is not None and not 0 < value < 1e6:
            raise RequestError(f"{name} is {value:g}, and must be above 0")
    memory = memory_gb * 1e9 if memory_gb else where.memory_bytes if where else 0
    bandwidth = bandwidth_gb_s * 1e9 if bandwidth_gb_s else where.bytes_per_second if where else 0.0
    rate = tops * 1e12 if tops else where.flops_per_second if where else 0.0
    share = facts.constant(f"infer.{where.family if where else 'phone'}")
    found = find_model(facts, model)
    job = make_job(found, size=size, seconds=seconds, num_steps=num_steps)
    passes = job.num_steps * job.branches
    flops = job.denoise().total + (found.decode_flops(job.shape) or 0)
    text = found.configs.text_encoder.parameters() if isinstance(found, PresetModel) else 0
    rows = []
    fits: int | None = None
    for bits in (16, 8, 4):
        weights = found.all_parameters * bits / 8
        in_turn = max(found.parameters, text) * bits / 8
        reading = passes * found.parameters * bits / 8 / bandwidth
        fitting = in_turn < USABLE * memory
        fits = bits if fitting and fits is None else fits
        rows.append((f"{bits} bits", weights, in_turn, fitting, reading))
    arithmetic = Range.of(*(flops / (rate * share.at(case)) for case in ("high", "default", "low"))) if rate else None
    name = where.title if where else "a device"
    return Estimate(
        title=f"{found.title} on {name}: {format_bytes(memory)}, {bandwidth / 1e9:g} GB/s",
        summary=f"fits at {fits} bits" if fits else "does not fit at 4 bits",
        rows=(
            Row(
                "fits_at_bits", fits, "", f"the widest network within {100 * USABLE:.0f} % of the memory, one at a time"
            ),
            Row("arithmetic_seconds", arithmetic, "s", f"{flops:.3g} FLOPs at {share.value:g} of peak"),
            Row("bandwidth_seconds", rows[1][4], "s", f"every weight once a pass, 8 bits, {passes} passes"),
            Row("video_seconds", job.seconds, "s", job.shape.size),
        ),
        facts=unique([share]),
        tables=(
            Table(
                "By precision",
                ("weights", "all", "widest at once", "fits", "reading them, at least"),
                tuple(rows),
                ("", "bytes", "bytes", "", "s"),
            ),
        ),
        notes=(
            "floors: heat, the runtime and activations make it slower",
            *((f"{name}: {where.note}",) if where and where.note else ()),
        ),
    )
