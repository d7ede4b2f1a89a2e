"""`sorano plan explain`: a claim that many repeat, reproduced step by step, and what it leaves out.

Each step says how it is known. What nobody published is called an assumption, never given as a bare number.
"""

from __future__ import annotations

from collections.abc import Callable

from sorano.errors import RequestError
from sorano.plan import laws
from sorano.plan.estimate import Chart, Estimate, Range, Row, Table, unique
from sorano.plan.facts import Fact, Facts, load_facts, nearest
from sorano.plan.flops import published
from sorano.plan.hardware import find_device, training_share
from sorano.plan.training import device_hours

SORA_PARAMETERS, SORA_FLOPS = 30e9, 8.4e23
GPT3_PARAMETERS, GPT3_TOKENS, GPT3_FLOPS = 175e9, 300e9, 3.14e23
CLIP_TOKENS = (8_192, 73_728, 739_800, 1_479_600)  # small clips; 16 s of 768 px; one minute of 720p and of 1080p


def explain(claim: str, *, facts: Facts | None = None) -> Estimate:
    """A claim explained. Raises RequestError naming the nearest for one that is not known."""
    facts = facts or load_facts()
    if claim not in CLAIMS:
        raise RequestError(
            f"no claim {claim!r} is known", f"the nearest is {nearest(claim, CLAIMS)}; known: {', '.join(CLAIMS)}"
        )
    return CLAIMS[claim](facts)


def attention_factor(layers: int, width: int, linear_parameters: float, tokens: int) -> float:
    """By how much full attention over `tokens` raises 6 N D: 1 + 2 L D s / N, N the weights a token meets."""
    return 1 + 2 * layers * width * tokens / linear_parameters


def _sora(facts: Facts) -> Estimate:
    like = published(facts, "movie-gen-30b")
    a100, h100, b200, h20 = (find_device(facts, name) for name in ("a100", "h100", "b200", "h20"))
    tokens = SORA_FLOPS / 6 / SORA_PARAMETERS
    mfu = training_share(facts, a100)
    a100_hours = device_hours(SORA_FLOPS, a100, mfu.value, 1.0)
    then, now = facts.constant("price.a100.2024"), a100.price
    assert now is not None
    rows = [
        Row("parameters", SORA_PARAMETERS, "parameters", 'S: Galaxy Securities, February 2024, "to be confirmed"'),
        Row("flops", SORA_FLOPS, "FLOP", 'S: the same, "may reach"; by the method for language models'),
        Row("tokens", tokens, "tokens", "D: implied by 8.4e23 / (6 x 30e9); the note's own count was not found"),
        Row("times_gpt3", SORA_FLOPS / GPT3_FLOPS, "", f"D: over {GPT3_FLOPS:g} (P: GPT-3 paper)"),
        Row("clips_16s", tokens / CLIP_TOKENS[1], "clips", "D: of 73,728 tokens, as Movie Gen's clips of 16 s"),
        Row(
            "clips_minute_1080p",
            tokens / CLIP_TOKENS[3],
            "clips",
            "D: of 1,479,600 tokens: 8x8x8 autoencoder, patch of 2",
        ),
        Row("a100_hours", a100_hours, "h", f"D: MFU {mfu.value:g}, every hour counted as work"),
        Row("a100_days_10000", a100_hours / 1e4 / 24, "days", "D: on 10,000 A100"),
        Row("usd_then", _usd(a100_hours, then), "USD", f"M: A100 at {then.value:g} USD/h in 2024"),
        Row("usd_now", _usd(a100_hours, now), "USD", f"{now.tag}: A100 at {now.value:g} USD/h in {now.date}"),
    ]
    used = [mfu, then, now]
    costs = []
    for device in (a100, h100, b200, h20):
        share = training_share(facts, device)
        used.append(share)
        hours = Range(*(device_hours(SORA_FLOPS, device, share.at(c), 1.0) for c in ("high", "default", "low")))
        price = device.price
        usd = Range(hours.low * price.low, hours.default * price.value, hours.high * price.high) if price else None
        costs.append((device.title, share.value, hours, usd, "assumption" if share.tag == "A" else share.tag))
    attention = []
    for count, what in zip(
        CLIP_TOKENS, ("256 px clips", "16 s of 768 px", "one minute of 720p", "one minute of 1080p"), strict=True
    ):
        factor = attention_factor(like.layers, like.width, like.parameters, count)
        attention.append((what, count, factor, SORA_FLOPS * factor))
    spent = [
        (
            row["model"],
            number_of(row["flops_reported"] or row["flops_exact_derived"] or row["flops_6ND"]),
            row["gpu_hours"],
            f"{row['tag']}: {row['source'][:60]}",
        )
        for row in (facts.row("runs", name) for name in ("seaweed-7b", "llama-2-70b", "movie-gen-video", "gpt-3-175b"))
    ]
    optima = [laws.hunyuan(SORA_FLOPS), laws.precise(SORA_FLOPS)]
    points = [10 ** (3 + k / 5) for k in range(18)]
    curve = tuple(
        (s, SORA_FLOPS * attention_factor(like.layers, like.width, like.parameters, round(s))) for s in points
    )
    return Estimate(
        title="Explain: Sora, 30 B parameters and 8.4e23 FLOPs",
        summary="a lower bound: it counts as for language models and leaves attention out",
        rows=tuple(rows),
        facts=unique(used),
        tables=(
            Table(
                "What attention adds (assumption: Movie Gen's shape, 48 layers of 6,144)",
                ("a sample is", "tokens", "factor", "FLOPs with attention"),
                tuple(attention),
                ("", "", "", "FLOP"),
            ),
            Table(
                "What it costs", ("device", "MFU", "hours", "USD", "MFU known"), tuple(costs), ("", "", "h", "USD", "")
            ),
            Table(
                "Who spent about as much",
                ("run", "FLOPs", "device-hours", "source"),
                tuple(spent),
                ("", "FLOP", "", ""),
            ),
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
            "1.1e25 to 2.7e25: counting attention at one minute a sample closes that gap, 1.5e25 to 3.0e25",
            "at which length Sora was trained is not known",
            "HunyuanVideo's law gives 32 B for this budget: it was published ten months after the claim, so this is "
            "agreement and not derivation",
            "one successful run; failed ones, the autoencoder and captions come on top",
        ),
    )


def _gpt3(facts: Facts) -> Estimate:
    v100, a100 = find_device(facts, "v100"), find_device(facts, "a100")
    flops = 6 * GPT3_PARAMETERS * GPT3_TOKENS
    v100_share, a100_share = training_share(facts, v100), training_share(facts, a100)
    hours = Range(*(device_hours(GPT3_FLOPS, a100, a100_share.at(c), 1.0) for c in ("high", "default", "low")))
    v100_hours = 10_000 * 14.8 * 24
    assert a100.price is not None
    today = Range(hours.low * a100.price.low, hours.default * a100.price.value, hours.high * a100.price.high)
    return Estimate(
        title="Explain: GPT-3, 175 B parameters",
        summary="trained on 10,000 V100 for 14.8 days, not on A100; 1.4 to 12 million dollars by who counts",
        rows=(
            Row("parameters", GPT3_PARAMETERS, "parameters", "P: arXiv 2005.14165"),
            Row("flops_6nd", flops, "FLOP", "D: 6 x 175e9 x 300e9; the paper says 3.14e23"),
            Row("collected_bytes", 45e12, "bytes", "P: compressed text BEFORE filtering"),
            Row("filtered_bytes", 570e9, "bytes", "P: after filtering; 300e9 tokens of it were trained on"),
            Row("v100_hours", v100_hours, "h", "P: 10,000 V100 for 14.8 days (arXiv 2104.10350)"),
            Row("v100_mfu", GPT3_FLOPS / (v100_hours * 3600 * v100.flops_per_second), "%", "D: published as 19.7 %"),
            Row("a100_hours", hours, "h", f"D: today, MFU {a100_share.value:g}"),
            Row("a100_days_10000", hours.default / 1e4 / 24, "days", "D: 10,000 A100 is a fleet, not a requirement"),
            Row(
                "a100_days_1024", device_hours(GPT3_FLOPS, a100, 0.44, 1.0) / 1024 / 24, "days", "D: 1,024 A100 at 44 %"
            ),
            Row("usd_today", today, "USD", "D: A100-hours x today's price"),
        ),
        facts=unique([v100_share, a100_share, a100.price]),
        tables=(
            Table(
                "Three public prices of one run",
                ("who", "USD", "how"),
                (
                    (
                        "Guosheng Securities 2023",
                        1.4e6,
                        "S: public cloud; 2 to 12 million is what it gives for LARGER models",
                    ),
                    ("Lambda 2020", 4.6e6, "S: 355 V100-years at 1.48 USD/h"),
                    ("press 2020", 12e6, "S: 3.11e6 V100-hours at 3.86 USD/h, list price of 2020"),
                ),
                ("", "USD", ""),
            ),
        ),
        notes=('"at least 10,000 A100" and "over 12 million" attach other things\' numbers to GPT-3',),
    )


def _chatgpt(facts: Facts) -> Estimate:
    a100 = find_device(facts, "a100")
    words = facts.constant("words.tokens")
    tokens = Range(*(4.5e9 * getattr(words, case) for case in ("low", "value", "high")))
    flops = 2 * GPT3_PARAMETERS * tokens.default
    per_day = a100.flops_per_second * 86_400
    decode = facts.constant("infer.seconds_per_token_decode.a100")
    return Estimate(
        title="Explain: ChatGPT, 2023: 4.5 billion words a day",
        summary="a figure of the GPT-3 API of March 2021; 260 A100 by arithmetic, six times as many in practice",
        rows=(
            Row("words_per_day", 4.5e9, "words", "S: OpenAI on its GPT-3 API, March 2021; not ChatGPT"),
            Row("tokens_per_day", tokens, "tokens", f"D: {words.value:g} tokens a word"),
            Row("flops_per_day", flops, "FLOP", "D: 2 N a token"),
            Row("a100_at_30", flops / per_day / 0.30, "A100", "D: arithmetic at 30 % of peak"),
            Row(
                "a100_at_5",
                flops / per_day / decode.value,
                "A100",
                "assumption: 5 %, for writing a token reads every weight",
            ),
            Row("days_to_equal_training", GPT3_FLOPS / flops, "days", "D: of such use against one training run"),
        ),
        facts=(words, decode),
        notes=("models, batching and caching have changed since: a lesson in sizes, not a bill",),
    )


def _usd(hours: float, price: Fact) -> Range:
    return Range(hours * price.low, hours * price.value, hours * price.high)


def number_of(text: str) -> float | str:
    """The first number of a cell, or the cell."""
    try:
        return float(text.split()[0].strip("(,"))
    except (ValueError, IndexError):
        return text or "not published"


CLAIMS: dict[str, Callable[[Facts], Estimate]] = {"sora-2024": _sora, "gpt-3": _gpt3, "chatgpt-2023": _chatgpt}
