"""`sorano plan explain`: a claim that many repeat, reproduced step by step, and what it leaves out.

Each step says how it is known. What nobody published is called an assumption, never given as a bare number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sorano.errors import RequestError
from sorano.plan import laws
from sorano.plan.assumptions import Assumption, Assumptions, load_assumptions, nearest, number
from sorano.plan.estimate import CASES, Chart, Estimate, Range, Row, Table, unique
from sorano.plan.flops import PublishedModel, published
from sorano.plan.hardware import Device, find_device, training_share
from sorano.plan.training import device_hours

# tokens of a sample: 8x8x8 autoencoder, patches of 2, 24 frames a second in the last three
CLIPS = (
    ("256 px clips", 8_192),
    ("16 s of 768 px", 73_728),
    ("one minute of 720p", 648_000),
    ("half a minute of 1080p", 739_800),
    ("one minute of 1080p", 1_479_600),
)


@dataclass(frozen=True)
class PublishedRun:
    """What is said of a run that a claim is about: a row of runs.csv."""

    parameters: float
    flops: float
    row: dict[str, str]


def claimed(assumptions: Assumptions, name: str) -> PublishedRun:
    """The run of this name in runs.csv."""
    row = assumptions.row("runs", name)
    return PublishedRun(number(row, "params_total_B", "runs") * 1e9, number(row, "flops_reported", "runs"), row)


def sora(assumptions: Assumptions) -> PublishedRun:
    """Sora as China Galaxy Securities put it."""
    return claimed(assumptions, "sora-2024-galaxy-securities-estimate-single-run")


def gpt3(assumptions: Assumptions) -> PublishedRun:
    """GPT-3 as its paper says."""
    return claimed(assumptions, "gpt-3-175b")


def explain(claim: str, *, assumptions: Assumptions | None = None) -> Estimate:
    """A claim explained. Raises RequestError naming the nearest for one that is not known."""
    assumptions = assumptions or load_assumptions()
    if claim not in CLAIMS:
        raise RequestError(
            f"no claim {claim!r} is known", f"the nearest is {nearest(claim, CLAIMS)}; known: {', '.join(CLAIMS)}"
        )
    return CLAIMS[claim](assumptions)


def attention_factor(layers: int, width: int, linear_parameters: float, tokens: int) -> float:
    """By how much full attention over `tokens` raises 6 N D: 1 + 2 L D s / N, N the weights a token meets."""
    return 1 + 2 * layers * width * tokens / linear_parameters


def _sora(assumptions: Assumptions) -> Estimate:
    like = published(assumptions, "movie-gen-30b")
    claim, a100 = sora(assumptions), find_device(assumptions, "a100")
    mfu, then, now = training_share(assumptions, a100), assumptions.constant("price.a100.2024"), a100.price
    assert now is not None
    optima = [laws.hunyuan(assumptions, claim.flops), laws.precise(assumptions, claim.flops)]
    points = [10 ** (3 + k / 5) for k in range(18)]
    curve = tuple(
        (s, claim.flops * attention_factor(like.layers, like.width, like.parameters, round(s))) for s in points
    )
    devices = [find_device(assumptions, name) for name in ("a100", "h100", "b200", "h20")]
    shares = [training_share(assumptions, device) for device in devices]
    return Estimate(
        title="Explain: Sora, 30 B parameters and 8.4e23 FLOPs",
        summary="a lower bound: it counts as for language models and leaves attention out",
        rows=_sora_rows(claim, gpt3(assumptions), a100, mfu, then, now),
        assumptions=unique([mfu, then, now, *shares]),
        tables=(
            _attention_table(claim, like),
            _device_costs(claim, devices, shares),
            _spent_table(assumptions),
            Table(
                "What two scaling laws say of 8.4e23",
                ("law", "parameters", "tokens", "source"),
                tuple((o.law, o.parameters, o.tokens, f"{o.tag}: {o.source}") for o in optima),
                ("", "", "", ""),
            ),
        ),
        charts=(Chart("8.4e23 with attention counted", "tokens of a sample", "FLOPs", (("total", curve),)),),
        notes=(
            "the vendor never published parameters, tokens or FLOPs; another estimate (Factorial Funds, March 2024) is "
            "1.1e25 to 2.7e25: counting attention at half a minute to a minute of 1080p a sample closes that gap, "
            "1.5e25 to 3.0e25",
            "at which length Sora was trained is not known",
            "HunyuanVideo's law gives 32 B for this budget: it was published ten months after the claim, so this is "
            "agreement and not derivation",
            "one successful run; failed ones, the autoencoder and captions come on top",
        ),
    )


def _sora_rows(
    claim: PublishedRun, other: PublishedRun, a100: Device, mfu: Assumption, then: Assumption, now: Assumption
) -> tuple[Row, ...]:
    """What is claimed, and what it means in clips, in hours of A100 and in the dollars of then and now."""
    tokens, clips = claim.flops / 6 / claim.parameters, dict(CLIPS)
    hours = device_hours(claim.flops, a100, mfu.value, 1.0)
    short, long = tokens / clips["16 s of 768 px"], tokens / clips["one minute of 1080p"]
    return (
        Row("parameters", claim.parameters, "parameters", 'S: Galaxy Securities, February 2024, "to be confirmed"'),
        Row("flops", claim.flops, "FLOP", 'S: the same, "may reach"; by the method for language models'),
        Row("tokens", tokens, "tokens", "D: implied by FLOPs / (6 x parameters); the note's own count was not found"),
        Row("times_gpt3", claim.flops / other.flops, "", f"D: over {other.flops:g} ({other.row['tag']}: GPT-3 paper)"),
        Row("clips_16s", short, "clips", "D: of 73,728 tokens, as Movie Gen's clips of 16 s"),
        Row("clips_minute_1080p", long, "clips", "D: of 1,479,600 tokens: 8x8x8 autoencoder, patch of 2"),
        Row("a100_hours", hours, "h", f"D: MFU {mfu.value:g}, every hour counted as work"),
        Row("a100_days_10000", hours / 1e4 / 24, "days", "D: on 10,000 A100"),
        Row("usd_then", _usd(hours, then), "USD", f"M: A100 at {then.value:g} USD/h in 2024"),
        Row("usd_now", _usd(hours, now), "USD", f"{now.tag}: A100 at {now.value:g} USD/h in {now.date}"),
    )


def _attention_table(claim: PublishedRun, like: PublishedModel) -> Table:
    rows = []
    for what, count in CLIPS:
        factor = attention_factor(like.layers, like.width, like.parameters, count)
        rows.append((what, count, factor, claim.flops * factor))
    return Table(
        "What attention adds (assumption: Movie Gen's shape, 48 layers of 6,144)",
        ("a sample is", "tokens", "factor", "FLOPs with attention"),
        tuple(rows),
        ("", "", "", "FLOP"),
    )


def _device_costs(claim: PublishedRun, devices: list[Device], shares: list[Assumption]) -> Table:
    rows = []
    for device, share in zip(devices, shares, strict=True):
        hours = Range(*(device_hours(claim.flops, device, share.at(c), 1.0) for c in ("high", "default", "low")))
        price = device.price
        usd = Range(hours.low * price.low, hours.default * price.value, hours.high * price.high) if price else None
        rows.append((device.title, share.value, hours, usd, "assumption" if share.tag == "A" else share.tag))
    return Table("What it costs", ("device", "MFU", "hours", "USD", "MFU known"), tuple(rows), ("", "", "h", "USD", ""))


def _spent_table(assumptions: Assumptions) -> Table:
    runs = [assumptions.row("runs", name) for name in ("seaweed-7b", "llama-2-70b", "movie-gen-video", "gpt-3-175b")]
    rows = [
        (
            row["model"],
            number_of(row["flops_reported"] or row["flops_exact_derived"] or row["flops_6ND"]),
            row["gpu_hours"],
            f"{row['tag']}: {row['source'][:60]}",
        )
        for row in runs
    ]
    return Table(
        "Who spent about as much",
        ("run", "FLOPs", "device-hours", "source"),
        tuple(rows),
        ("", "FLOP", "", ""),
    )


def _gpt3(assumptions: Assumptions) -> Estimate:
    v100, a100 = find_device(assumptions, "v100"), find_device(assumptions, "a100")
    claim = gpt3(assumptions)
    said = {
        name: assumptions.constant(f"claim.gpt3.{name}")
        for name in (
            "v100_days",
            "collected_tb",
            "filtered_gb",
            "mfu_1024_a100",
            "usd_guosheng",
            "usd_lambda",
            "usd_press",
        )
    }
    tokens = number_of(claim.row["samples_seen"])
    assert isinstance(tokens, float)
    flops = 6 * claim.parameters * tokens
    v100_share, a100_share = training_share(assumptions, v100), training_share(assumptions, a100)
    hours = Range(*(device_hours(claim.flops, a100, a100_share.at(c), 1.0) for c in ("high", "default", "low")))
    v100_hours = 10_000 * said["v100_days"].value * 24
    assert a100.price is not None
    today = Range(hours.low * a100.price.low, hours.default * a100.price.value, hours.high * a100.price.high)
    return Estimate(
        title="Explain: GPT-3, 175 B parameters",
        summary="trained on 10,000 V100 for 14.8 days, not on A100; 1.4 to 12 million dollars by who counts",
        rows=(
            Row("parameters", claim.parameters, "parameters", "P: arXiv 2005.14165"),
            Row("flops_6nd", flops, "FLOP", f"D: 6 x parameters x {tokens:g} tokens; the paper says {claim.flops:g}"),
            _quoted("collected_bytes", said["collected_tb"], "bytes", 1e12),
            _quoted("filtered_bytes", said["filtered_gb"], "bytes", 1e9),
            Row("v100_hours", v100_hours, "h", "P: 10,000 V100 for 14.8 days (arXiv 2104.10350)"),
            Row("v100_mfu", claim.flops / (v100_hours * 3600 * v100.flops_per_second), "%", "D: published as 19.7 %"),
            Row("a100_hours", hours, "h", f"D: today, MFU {a100_share.value:g}"),
            Row("a100_days_10000", hours.default / 1e4 / 24, "days", "D: 10,000 A100 is a fleet, not a requirement"),
            Row(
                "a100_days_1024",
                device_hours(claim.flops, a100, said["mfu_1024_a100"].value, 1.0) / 1024 / 24,
                "days",
                f"D: 1,024 A100 at {100 * said['mfu_1024_a100'].value:g} % of peak",
            ),
            Row("usd_today", today, "USD", "D: A100-hours x today's price"),
        ),
        assumptions=unique([v100_share, a100_share, a100.price, *said.values()]),
        tables=(
            Table(
                "Three public prices of one run",
                ("who", "USD", "how"),
                tuple(
                    (price.source, price.value, f"{price.tag}: {price.note}")
                    for price in (said["usd_guosheng"], said["usd_lambda"], said["usd_press"])
                ),
                ("", "USD", ""),
            ),
        ),
        notes=('"at least 10,000 A100" and "over 12 million" attach other things\' numbers to GPT-3',),
    )


def _chatgpt(assumptions: Assumptions) -> Estimate:
    a100 = find_device(assumptions, "a100")
    words = assumptions.constant("words.tokens")
    said, run = assumptions.constant("claim.chatgpt.words_per_day"), gpt3(assumptions)
    tokens = Range(*(said.value * words.at(case) for case in CASES))
    flops = 2 * run.parameters * tokens.default
    per_day = a100.flops_per_second * 86_400
    reads, writes = (assumptions.constant(f"claim.language.{name}") for name in ("arithmetic", "decode"))
    return Estimate(
        title="Explain: ChatGPT, 2023: 4.5 billion words a day",
        summary=f"a figure of the GPT-3 API of March 2021; {flops / per_day / reads.value:,.0f} A100 by arithmetic, "
        f"{reads.value / writes.value:.2g} times as many where writing waits for memory",
        rows=(
            _quoted("words_per_day", said, "words"),
            Row("tokens_per_day", tokens, "tokens", f"D: {words.value:g} tokens a word"),
            Row("flops_per_day", flops, "FLOP", "D: 2 N a token"),
            Row(
                "a100_by_arithmetic",
                flops / per_day / reads.value,
                "A100",
                f"assumption: {100 * reads.value:g} % of peak, for a model that reads",
            ),
            Row(
                "a100_in_practice",
                flops / per_day / writes.value,
                "A100",
                f"assumption: {100 * writes.value:g} % of peak, for writing a token reads every weight",
            ),
            Row("days_to_equal_training", run.flops / flops, "days", "D: of such use against one training run"),
        ),
        assumptions=(said, words, reads, writes),
        notes=("models, batching and caching have changed since: a lesson in sizes, not a bill",),
    )


def _quoted(name: str, fact: Assumption, unit: str, scale: float = 1.0) -> Row:
    why = f"{fact.tag}: {fact.source}"
    return Row(name, fact.value * scale, unit, f"{why}; {fact.note}" if fact.note else why)


def _usd(hours: float, price: Assumption) -> Range:
    return Range(hours * price.low, hours * price.value, hours * price.high)


def number_of(text: str) -> float | str:
    """The first number of a cell, or the cell."""
    try:
        return float(text.split()[0].strip("(,"))
    except (ValueError, IndexError):
        return text or "not published"


CLAIMS: dict[str, Callable[[Assumptions], Estimate]] = {"sora-2024": _sora, "gpt-3": _gpt3, "chatgpt-2023": _chatgpt}
