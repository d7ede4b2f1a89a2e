"""What making a video is said to take, and that it moves the way it must."""

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sorano.errors import RequestError
from sorano.plan.assumptions import load_assumptions, number
from sorano.plan.edge import plan_edge
from sorano.plan.estimate import CASES, Range
from sorano.plan.flops import find_model
from sorano.plan.hardware import find_device
from sorano.plan.inference import chunked_flops, full_flops, make_job, plan_generate
from sorano.plan.parallel import (
    exchange_seconds,
    ring_bytes,
    shared,
    split_tokens,
    ulysses_bytes,
    young_daly,
)  # fmt: skip
from sorano.plan.serving import plan_serve

FACTS = load_assumptions()
RATED = [name for name, row in FACTS.rows["devices"].items() if row["bf16_tflops"] or row["int8_tops"]]
MODELS = ["world", "wan2.1-t2v-1.3b", "wan2.2-ti2v-5b", "wan2.2-t2v-a14b", "hunyuanvideo-13b", "movie-gen-30b"]
QUICK = settings(max_examples=25, deadline=None, derandomize=True)


def numbers(value):
    return [value.low, value.default, value.high] if isinstance(value, Range) else [value]


def check(made):
    """No number of a plan is negative or none; lows are low and highs are high."""
    for row in made.all_rows():
        for value in numbers(row.value):
            if isinstance(value, (int, float)):
                assert math.isfinite(value) and value >= 0, row
        if isinstance(row.value, Range):
            assert row.value.low <= row.value.default <= row.value.high, row


def seconds(model, **words):
    return plan_generate(model, device="h100", assumptions=FACTS, **words)["seconds"].default


@QUICK
@given(
    model=st.sampled_from(MODELS),
    device=st.sampled_from(RATED),
    count=st.sampled_from([1, 2, 3, 8, 64, 1000]),
    length=st.floats(0.1, 120),
    steps=st.integers(1, 200),
)
def test_nothing_is_ever_negative_or_not_a_number(model, device, count, length, steps):
    check(plan_generate(model, device=device, count=count, seconds=length, num_steps=steps, assumptions=FACTS))


@pytest.mark.parametrize("device", FACTS.rows["devices"])
def test_every_device_is_planned_or_refused_in_words(device):
    check(plan_edge("wan2.1-t2v-1.3b", device=device, assumptions=FACTS))
    plans = [
        lambda: plan_generate("wan2.2-ti2v-5b", device=device, assumptions=FACTS),
        lambda: plan_serve("wan2.2-ti2v-5b", per_day=100, device=device, assumptions=FACTS),
    ]
    for plan in plans:
        if device in RATED:
            check(plan())
        else:
            with pytest.raises(RequestError, match="no arithmetic rate of .* is published"):
                plan()


@QUICK
@given(
    model=st.sampled_from(MODELS),
    memory=st.floats(0.5, 500),
    bandwidth=st.floats(1, 5000),
    tops=st.none() | st.floats(0.1, 5000),
    steps=st.integers(1, 100),
)
def test_what_an_edge_device_takes_is_never_below_its_floors(model, memory, bandwidth, tops, steps):
    words = {"memory_gb": memory, "bandwidth_gb_s": bandwidth, "tops": tops, "num_steps": steps, "assumptions": FACTS}
    made = plan_edge(model, **words)
    check(made)
    if tops:
        assert made["likely_seconds"].low >= max(made["arithmetic_seconds"], made["bandwidth_seconds"])
    larger = plan_edge(model, **words | {"memory_gb": 2 * memory})
    assert (larger["fits_at_bits"] or 0) >= (made["fits_at_bits"] or 0)
    assert plan_edge(model, **words | {"num_steps": steps + 1})["bandwidth_seconds"] > made["bandwidth_seconds"] * (
        1 if larger["fits_at_bits"] == made["fits_at_bits"] else 0
    )


def test_an_edge_floor_is_the_full_rate_and_what_fits_has_room_to_work():
    made = plan_edge("wan2.1-t2v-1.3b", device="snapdragon-8-elite", assumptions=FACTS)
    job = make_job(find_model(FACTS, "wan2.1-t2v-1.3b"))
    flops = job.denoise().total + job.model.decode_flops(job.shape)
    assert made["arithmetic_seconds"] == pytest.approx(flops / 45e12)
    assert made["bandwidth_seconds"] == pytest.approx(100 * job.model.parameters * made["fits_at_bits"] / 8 / 85e9)
    assert made["likely_seconds"].default > made["arithmetic_seconds"]
    configs = job.model.configs
    widest = max(network.parameters() for network in configs.networks())
    assert made["peak_bytes"] > widest * made["fits_at_bits"] / 8  # weights and what they work on
    assert {fact.name for fact in made.assumptions} == {"infer.phone", "edge.usable", "edge.pass"}
    dense = plan_edge("wan2.1-t2v-1.3b", device="h100", assumptions=FACTS)  # fits at 16 bits
    assert dense["arithmetic_seconds"] == pytest.approx(flops / 989e12)


def test_without_a_device_every_phone_is_planned_for_the_quickest_first():
    made = plan_edge("wan2.1-t2v-1.3b", bits=4, assumptions=FACTS)
    check(made)
    phones = {name for name, row in FACTS.rows["devices"].items() if row["family"] == "phone"}
    assert {row.name for row in made.rows} == phones and len(phones) > 5
    known = [row.value.default for row in made.rows if isinstance(row.value, Range)]
    assert known == sorted(known) and f"of {len(phones)} at 4 bits" in made.summary
    for row in made.rows:
        alone = plan_edge("wan2.1-t2v-1.3b", device=row.name, bits=4, assumptions=FACTS)
        assert alone["fits_at_bits"] == 4 and (alone["likely_seconds"] or row.value) == row.value
    with pytest.raises(RequestError, match="3 bits are not planned"):
        plan_edge("world", bits=3)


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
    one = plan_generate(model, device="h100", count=few, assumptions=FACTS)
    many = plan_generate(model, device="h100", count=few * more, assumptions=FACTS)
    for case in CASES:
        exchanged = many["exchange_seconds"].high * 2
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
    made = plan_generate(row["model"], size=row["size"], device="h100", count=8, stack=stack, assumptions=FACTS)
    assert made["denoise_seconds"].default == pytest.approx(number(row, "seconds", "measured"), rel=tolerance)


def test_the_wall_of_full_attention_and_the_line_of_chunks():
    """Facts 2.5: 30 B at 720p, 24 fps, 50 steps with guidance."""
    job = make_job(find_model(FACTS, "movie-gen-30b"), size="1280x720", fps=24.0, num_steps=50)
    full = [full_flops(job, 60 * minutes).total for minutes in (1, 10, 60)]
    assert full == pytest.approx([5.3e19, 5.0e21, 1.8e23], rel=0.02)
    assert full[1] / full[0] == pytest.approx(94, rel=0.02)
    assert full[2] / full[0] == pytest.approx(3378, rel=0.001)
    chunks = [chunked_flops(job, 60 * minutes, chunk=5.0, context=15.0).total for minutes in (1, 10, 60)]
    assert chunks == pytest.approx([2.2e19, 2.2e20, 1.3e21], rel=0.10)
    assert [chunk / chunks[0] for chunk in chunks] == pytest.approx([1, 10, 60])
    assert chunks[2] < full[2] / 100


def test_a_request_that_does_not_fit_says_what_would_best_first():
    made = plan_generate("wan2.2-t2v-a14b", size="1280x720", device="a10", assumptions=FACTS)
    small = plan_generate("wan2.2-t2v-a14b", size="1280x720", seconds=60.0, device="a10", assumptions=FACTS)
    assert made["fits"] in (True, False) and small["fits"] is False
    assert small["would_fit"].startswith("--size") and "a device with" in small["would_fit"]
    with pytest.raises(KeyError):
        plan_generate("wan2.1-t2v-1.3b", device="h100", assumptions=FACTS)["would_fit"]


def test_weights_in_fewer_bits_need_less():
    peaks = [
        plan_generate("wan2.1-t2v-14b", device="h100", dtype=dtype, assumptions=FACTS)["peak_bytes"]
        for dtype in ("bfloat16", "float8", "int4")
    ]
    assert peaks == sorted(peaks, reverse=True) and peaks[0] > 1.2 * peaks[2]


def test_money_is_hours_times_price_and_energy_is_watts_times_seconds():
    made = plan_generate("wan2.1-t2v-14b", device="h100", count=4, usd_hour=2.0, assumptions=FACTS)
    device_seconds = 4 * made["seconds"].default
    assert made["usd"].default == pytest.approx(2 * device_seconds / 3600)
    assert made["kwh"].default == pytest.approx(device_seconds * 700 * 0.9 * 1.72 / 3.6e6)
    assert made["co2_g"].default == pytest.approx(470 * made["kwh"].default)
    assert {fact.name for fact in made.assumptions} >= {
        "price.yours",
        "energy.tdp",
        "energy.facility",
        "parallel.serial",
    }


def test_this_machine_is_planned_by_the_same_function_as_a_run(monkeypatch, tmp_path):
    from sorano.plan.generate import estimate_generate
    from sorano.plan.machine import this_machine

    monkeypatch.setenv("SORANO_CACHE", str(tmp_path))
    made = plan_generate("world", assumptions=FACTS)
    job = make_job(find_model(FACTS, "world"))
    run = estimate_generate(job.model.configs, this_machine(), job.shape, num_steps=job.num_steps, fps=job.fps)
    assert made["seconds"].default == run.seconds and made["peak_bytes"] == run.peak_bytes


def test_this_machine_says_what_its_plan_stands_on(monkeypatch, tmp_path):
    from sorano.plan.machine import CPU, profile_file

    monkeypatch.setenv("SORANO_CACHE", str(tmp_path))
    guessed = plan_generate("world", assumptions=FACTS)
    known = {fact.name: fact for fact in guessed.assumptions}
    assert {"machine.matmul", "machine.linear", "machine.decode", "machine.guessed"} <= set(known)
    assert known["machine.linear"].tag == "A" and any("guessed: run" in note for note in guessed.notes)
    profile = replace(CPU, name="cpu, float32, measured 2026-11-20", flops_per_second=6e10)
    profile.write(profile_file("cpu", "float32"))
    measured = plan_generate("world", assumptions=FACTS)
    known = {fact.name: fact for fact in measured.assumptions}
    assert (known["machine.matmul"].tag, known["machine.matmul"].date) == ("U", "2026-11-20")
    assert known["machine.matmul"].value == 6e10 and known["machine.linear"].low < known["machine.linear"].high <= 1
    narrow, wide = measured["seconds"], guessed["seconds"]
    assert wide.high / wide.low > narrow.high / narrow.low > 1


def test_devices_that_share_a_video_share_its_memory_too():
    words = {"size": "1280x720", "device": "h100", "assumptions": FACTS}
    one, eight = (plan_generate("wan2.2-t2v-a14b", count=count, **words) for count in (1, 8))
    for stage in ("text_bytes", "denoise_bytes"):
        assert eight[stage] < one[stage]
    assert not one["fits"] or eight["peak_bytes"] < one["peak_bytes"]
    published = [plan_generate("movie-gen-30b", device="h100", count=count, assumptions=FACTS) for count in (1, 8)]
    assert published[1]["weight_bytes"] == pytest.approx(published[0]["weight_bytes"] / 8)


@pytest.mark.parametrize("model", ["wan2.1-t2v-1.3b", "wan2.1-i2v-14b-480p", "wan2.2-ti2v-5b", "wan2.2-t2v-a14b"])
@pytest.mark.parametrize("count", [1, 4])
def test_what_is_taken_is_the_first_way_to_place_it_that_fits(model, count):
    made = plan_generate(model, device="rtx5090", count=count, assumptions=FACTS)
    ways = next(table for table in made.tables if table.title.startswith("Ways to place it"))
    first = next((row for row in ways.rows if row[-1]), ways.rows[-1])
    assert (made["text_bytes"], made["denoise_bytes"], made["decode_bytes"]) == first[1:4]
    assert made["peak_bytes"] == max(first[1:4]) and made["fits"] is first[-1]


@pytest.mark.parametrize(("model", "budget"), [("wan2.2-t2v-a14b", 12 * 10**9), ("movie-gen-30b", 20 * 10**9)])
def test_more_devices_make_it_fit_where_a_plan_says_so(model, budget):
    words = {"size": "1280x720", "device": "h100", "memory_bytes": budget, "assumptions": FACTS}
    advice = plan_generate(model, **words)["would_fit"]
    together = int(advice.rpartition(" or ")[2].split()[0])
    assert "of these that share the weights" in advice and together > 1
    assert plan_generate(model, count=together, **words)["fits"]


def test_a_budget_is_what_a_published_model_must_fit_into():
    words = {"device": "h100", "assumptions": FACTS}
    assert plan_generate("movie-gen-30b", **words)["fits"]
    assert not plan_generate("movie-gen-30b", memory_bytes=12 * 10**9, **words)["fits"]


def test_what_devices_exchange_has_bounds():
    exchanged = plan_generate("wan2.1-t2v-14b", device="h100", count=8, assumptions=FACTS)["exchange_seconds"]
    assert 0 < exchanged.low < exchanged.default < exchanged.high


def test_the_summary_is_the_answer():
    made = plan_generate("wan2.1-t2v-1.3b", device="h100", assumptions=FACTS)
    assert "USD" in made.summary and "which fits" in made.summary and made.summary not in made.title


def test_money_and_carbon_are_said_for_a_second_of_video_too():
    made = plan_generate("wan2.1-t2v-1.3b", device="h100", assumptions=FACTS)
    length = make_job(find_model(FACTS, "wan2.1-t2v-1.3b")).seconds
    for name in ("usd", "kwh", "co2_g"):
        assert made[f"{name}_per_video_second"].high == pytest.approx(made[name].high / length)


def test_published_prices_keep_what_contradicts_them_and_what_is_over():
    made = plan_generate("wan2.1-t2v-1.3b", device="h100", assumptions=FACTS)
    table = next(table for table in made.tables if "published prices" in table.title)
    rows = {row[0]: row for row in table.rows}
    assert "app closed 2026-04-26" in rows["Sora 2"][-1] and rows["Sora 2"][1] == "history"
    assert rows["Veo 3.1 by another site"][2:5] == (0.50, None, 0.75)
    assert rows["MiniMax H3 2K"][3] == 0.13 and rows["Veo 3.1 Lite on OpenRouter"][3] == 0.043
    assert sum(row[1] == "own hosting" for row in table.rows) > 10
    assert not any("running cost" in row[0] for row in table.rows)  # is no price


def test_a_model_of_layers_and_width_is_planned():
    made = plan_generate(layers=48, width=6144, device="h100", size="1280x768", assumptions=FACTS)
    assert made["forward_flops"] == plan_generate("movie-gen-30b", device="h100", assumptions=FACTS)["forward_flops"]
    with pytest.raises(RequestError, match="a model has its own"):
        plan_generate("world", layers=4, assumptions=FACTS)
    with pytest.raises(RequestError, match="layers is 0"):
        plan_generate(layers=0, device="h100", assumptions=FACTS)


def test_flash_attention_2_is_known_where_it_was_measured():
    named, one = (plan_generate("wan2.1-t2v-14b", device="h100", stack=s, assumptions=FACTS) for s in ("fa2", "one"))
    assert named["seconds"] == one["seconds"]
    with pytest.raises(RequestError, match="fa2"):
        plan_generate("wan2.1-t2v-14b", device="a100", stack="fa2", assumptions=FACTS)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"model": "movie-gen-30b"}, "cannot run Movie Gen"),
        ({"stack": "fa3"}, "stack is for devices"),
        ({"grid": "mars"}, "grid is for devices"),
        ({"usd_hour": 2.0}, "price is for devices"),
        ({"minutes": ()}, "minutes are"),
        ({"minutes": (-1.0,)}, "minutes are"),
        ({"memory_bytes": -5}, "memory is -5"),
        ({"size": "9999999x64"}, "65,536 pixels"),
        ({"size": "1000000x1000000"}, "65,536 pixels"),
        ({"model": "gpt-3", "device": "h100"}, "language model"),
    ],
)
def test_words_that_contradict_each_other_are_refused(words, said):
    with pytest.raises(RequestError, match=said):
        plan_generate(**{"model": "world", "assumptions": FACTS, **words})


@pytest.mark.parametrize("price", [-5.0, 0.0, math.nan, math.inf, 1e6])
def test_a_price_that_is_none_is_refused(price):
    with pytest.raises(RequestError, match="price is"):
        plan_generate("wan2.1-t2v-1.3b", device="h100", usd_hour=price, assumptions=FACTS)
    with pytest.raises(RequestError, match="price is"):
        plan_serve("wan2.1-t2v-1.3b", per_day=10, usd_hour=price, assumptions=FACTS)


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
        ({"grid": "mars"}, "grid 'mars'"),
    ],
)
def test_numbers_and_words_that_mean_nothing_are_refused(words, said):
    with pytest.raises(RequestError, match=said):
        plan_generate("wan2.1-t2v-1.3b", **{"device": "h100", "assumptions": FACTS, **words})


def test_an_unknown_model_names_the_nearest():
    with pytest.raises(RequestError, match="wan2.1-t2v-14bb") as caught:
        plan_generate("wan2.1-t2v-14bb", assumptions=FACTS)
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


def test_closed_forms_of_sharing_and_checkpoints():
    assert shared(100.0, 0.0, 4) == 25.0 and shared(100.0, 1.0, 4) == 100.0
    every, lost = young_daly(86_400.0, 50.0)
    assert every == pytest.approx(math.sqrt(2 * 50 * 86_400))
    assert lost == pytest.approx(math.sqrt(2 * 50 / 86_400))


def test_a_presets_repository_is_the_preset():
    by_name, by_repository = (
        plan_generate(name, device="h100") for name in ("wan2.2-ti2v-5b", "Wan-AI/Wan2.2-TI2V-5B-Diffusers")
    )
    assert by_name["denoise_flops"] == by_repository["denoise_flops"]
