"""What making a video is said to take, and that it moves the way it must."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sorano.errors import RequestError
from sorano.plan.estimate import CASES, Range
from sorano.plan.facts import load_facts, number
from sorano.plan.flops import find_model
from sorano.plan.hardware import find_device
from sorano.plan.inference import chunked_flops, full_flops, make_job, plan_generate
from sorano.plan.parallel import (
    exchange_seconds,
    pipeline_bubble,
    ring_bytes,
    shared,
    split_tokens,
    ulysses_bytes,
    young_daly,
)  # fmt: skip

FACTS = load_facts()
MODELS = ["world", "wan2.1-t2v-1.3b", "wan2.2-ti2v-5b", "wan2.2-t2v-a14b", "hunyuanvideo-13b", "movie-gen-30b"]
QUICK = settings(max_examples=25, deadline=None, derandomize=True)


def numbers(value):
    return [value.low, value.default, value.high] if isinstance(value, Range) else [value]


def seconds(model, **words):
    return plan_generate(model, device="h100", facts=FACTS, **words)["seconds"].default


@QUICK
@given(
    model=st.sampled_from(MODELS),
    device=st.sampled_from(sorted(FACTS.rows["devices"])),
    count=st.sampled_from([1, 2, 3, 8, 64, 1000]),
    length=st.floats(0.1, 120),
    steps=st.integers(1, 200),
)
def test_nothing_is_ever_negative_or_not_a_number(model, device, count, length, steps):
    made = plan_generate(model, device=device, count=count, seconds=length, num_steps=steps, facts=FACTS)
    for row in made.all_rows():
        for value in numbers(row.value):
            if isinstance(value, (int, float)):
                assert math.isfinite(value) and value >= 0, row
        if isinstance(row.value, Range):
            assert row.value.low <= row.value.default <= row.value.high, row


@QUICK
@given(model=st.sampled_from(MODELS), scale=st.integers(2, 4), steps=st.integers(1, 50))
def test_more_pixels_longer_videos_and_more_steps_take_longer(model, scale, steps):
    small = seconds(model, size="256x256", seconds=1.0, num_steps=steps)
    assert seconds(model, size=f"{256 * scale}x256", seconds=1.0, num_steps=steps) > small
    assert seconds(model, size="256x256", seconds=1.0 * scale, num_steps=steps) > small
    assert seconds(model, size="256x256", seconds=1.0, num_steps=steps + 1) > small


@QUICK
@given(model=st.sampled_from(MODELS[1:]), few=st.sampled_from([1, 2, 4, 8]), more=st.sampled_from([2, 4, 8]))
def test_more_devices_are_never_slower_but_for_what_they_exchange(model, few, more):
    one = plan_generate(model, device="h100", count=few, facts=FACTS)
    many = plan_generate(model, device="h100", count=few * more, facts=FACTS)
    for case in CASES:
        exchanged = many["exchange_seconds"] * 2
        assert getattr(many["seconds"], case) <= getattr(one["seconds"], case) + exchanged


def test_larger_models_take_longer():
    names = ["wan2.1-t2v-1.3b", "wan2.1-t2v-14b"]
    assert seconds(names[0], size="832x480") < seconds(names[1], size="832x480")


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [("readme-wan2.2-a14b-720p-8h100", 0.15), ("readme-wan2.2-a14b-480p-8h100", 0.20), ("mle-wan-14b-8h100", 0.20)],
)
def test_eight_devices_are_near_what_was_measured(name, tolerance):
    row = FACTS.row("measured", name)
    stack = "fa3" if "FlashAttention-3" in row["stack"] else "one"
    made = plan_generate(row["model"], size=row["size"], device="h100", count=8, stack=stack, facts=FACTS)
    assert made["denoise_seconds"].default == pytest.approx(number(row, "seconds", "measured"), rel=tolerance)


def test_the_wall_of_full_attention_and_the_line_of_chunks():
    """Facts 2.5: 30 B at 720p, 24 fps, 50 steps with guidance."""
    job = make_job(find_model(FACTS, "movie-gen-30b"), size="1280x720", fps=24.0, num_steps=50)
    full = [full_flops(job, 60 * minutes).total for minutes in (1, 10, 60)]
    assert full == pytest.approx([5.3e19, 5.0e21, 1.8e23], rel=0.02)
    assert full[1] / full[0] == pytest.approx(94, rel=0.02)
    assert full[2] / full[0] == pytest.approx(3344, rel=0.02)
    chunks = [chunked_flops(job, 60 * minutes).total for minutes in (1, 10, 60)]
    assert chunks == pytest.approx([2.2e19, 2.2e20, 1.3e21], rel=0.10)
    assert [chunk / chunks[0] for chunk in chunks] == pytest.approx([1, 10, 60])
    assert chunks[2] < full[2] / 100


def test_a_request_that_does_not_fit_says_what_would_best_first():
    made = plan_generate("wan2.2-t2v-a14b", size="1280x720", device="a10", facts=FACTS)
    small = plan_generate("wan2.2-t2v-a14b", size="1280x720", seconds=60.0, device="a10", facts=FACTS)
    assert made["fits"] in (True, False) and small["fits"] is False
    assert small["would_fit"].startswith("--size") and "a device with" in small["would_fit"]
    with pytest.raises(KeyError):
        plan_generate("wan2.1-t2v-1.3b", device="h100", facts=FACTS)["would_fit"]


def test_weights_in_fewer_bits_need_less():
    peaks = [
        plan_generate("wan2.1-t2v-14b", device="h100", dtype=dtype, facts=FACTS)["peak_bytes"]
        for dtype in ("bfloat16", "float8", "int4")
    ]
    assert peaks == sorted(peaks, reverse=True) and peaks[0] > 1.2 * peaks[2]


def test_money_is_hours_times_price_and_energy_is_watts_times_seconds():
    made = plan_generate("wan2.1-t2v-14b", device="h100", count=4, usd_hour=2.0, facts=FACTS)
    device_seconds = 4 * made["seconds"].default
    assert made["usd"].default == pytest.approx(2 * device_seconds / 3600)
    assert made["kwh"].default == pytest.approx(device_seconds * 700 * 0.9 * 1.72 / 3.6e6)
    assert made["co2_g"].default == pytest.approx(470 * made["kwh"].default)
    assert {fact.name for fact in made.facts} >= {"price.yours", "energy.tdp", "energy.facility", "parallel.serial"}


def test_this_machine_is_planned_by_the_same_function_as_a_run(monkeypatch, tmp_path):
    from sorano.plan.generate import estimate_generate
    from sorano.plan.machine import this_machine

    monkeypatch.setenv("SORANO_CACHE", str(tmp_path))
    made = plan_generate("world", facts=FACTS)
    job = make_job(find_model(FACTS, "world"))
    run = estimate_generate(job.model.configs, this_machine(), job.shape, num_steps=job.num_steps, fps=job.fps)
    assert made["seconds"] == run.seconds and made["peak_bytes"] == run.peak_bytes


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"seconds": 0}, "seconds"),
        ({"seconds": -1.0}, "seconds"),
        ({"seconds": 1e9}, "seconds"),
        ({"num_steps": 0}, "num_steps"),
        ({"count": 0}, "count"),
        ({"count": 8, "device": None}, "count is for devices"),
        ({"dtype": "int3"}, "dtype"),
        ({"size": "100x100"}, "off the grid"),
        ({"size": "big"}, "size"),
        ({"device": "h101"}, "no device"),
        ({"stack": "fa9"}, "stack"),
        ({"grid": "mars"}, "grid.mars"),
    ],
)
def test_numbers_and_words_that_mean_nothing_are_refused(words, said):
    with pytest.raises(RequestError, match=said):
        plan_generate("wan2.1-t2v-1.3b", **{"device": "h100", "facts": FACTS, **words})


def test_an_unknown_model_names_the_nearest():
    with pytest.raises(RequestError, match="wan2.1-t2v-14bb") as caught:
        plan_generate("wan2.1-t2v-14bb", facts=FACTS)
    assert "wan2.1-t2v-14b" in str(caught.value.hint)


def test_what_devices_exchange():
    """Facts 4.6: Wan 14B, 111,600 tokens."""
    tokens, width, layers = 111_600, 5120, 40
    assert ulysses_bytes(tokens, width, layers, 8) == pytest.approx(20e9, rel=0.02)
    assert ulysses_bytes(tokens, width, layers, 16) < ulysses_bytes(tokens, width, layers, 8)
    assert ring_bytes(tokens, width, layers, 8) > ring_bytes(tokens, width, layers, 2)
    model, h100 = find_model(FACTS, "wan2.1-t2v-14b"), find_device(FACTS, "h100")
    split = split_tokens(8, 40, 8)
    forward = exchange_seconds(model, tokens, split, h100, link_share=1.0, nic_bytes_per_second=40e9)
    assert 3 * forward == pytest.approx(0.13, rel=0.05)


@pytest.mark.parametrize(
    ("count", "heads", "links", "ulysses", "ring"),
    [(1, 40, 8, 1, 1), (8, 40, 8, 8, 1), (16, 40, 8, 8, 2), (8, 12, 8, 4, 2), (3, 40, 8, 1, 3), (64, 24, 8, 8, 8)],
)
def test_ulysses_divides_the_heads_and_stays_within_fast_links(count, heads, links, ulysses, ring):
    split = split_tokens(count, heads, links)
    assert (split.ulysses, split.ring) == (ulysses, ring)


def test_closed_forms_of_sharing_pipelines_and_checkpoints():
    assert shared(100.0, 0.0, 4) == 25.0 and shared(100.0, 1.0, 4) == 100.0
    assert pipeline_bubble(4, 12) == pytest.approx(3 / 15)
    assert pipeline_bubble(4, 12, interleaved=2) < pipeline_bubble(4, 12)
    every, lost = young_daly(86_400.0, 50.0)
    assert every == pytest.approx(math.sqrt(2 * 50 * 86_400))
    assert lost == pytest.approx(math.sqrt(2 * 50 / 86_400))
