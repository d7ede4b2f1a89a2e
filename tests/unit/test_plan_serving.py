"""The queue: closed forms, and a service that is played job by job."""

import math
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sorano.errors import RequestError
from sorano.plan.assumptions import load_assumptions
from sorano.plan.estimate import Range
from sorano.plan.serving import Queue, erlang_c, mean_wait_of_day, plan_serve, share_of_peak, simulate, smallest

FACTS = load_assumptions()
FULL = bool(os.environ.get("SORANO_FULL"))


def test_erlangs_formula_at_known_points():
    assert erlang_c(1, 0.5) == pytest.approx(0.5)  # one server: it waits as often as the server is busy
    assert erlang_c(2, 1.0) == pytest.approx(1 / 3)
    assert erlang_c(10, 7.0) == pytest.approx(0.2217, abs=5e-4)
    assert erlang_c(3, 3.0) == 1.0 and erlang_c(3, 0.0) == 0.0


@settings(max_examples=50, deadline=None, derandomize=True)
@given(servers=st.integers(1, 400), busy=st.floats(0.01, 0.999))
def test_erlangs_formula_is_the_recursion_from_one_server_on(servers, busy):
    load, blocked = busy * servers, 1.0
    for count in range(1, servers + 1):
        blocked = load * blocked / (count + load * blocked)
    assert erlang_c(servers, load) == pytest.approx(blocked / (1 - busy * (1 - blocked)), rel=1e-6, abs=1e-25)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    per_day=st.floats(0.01, 1e5),
    peak=st.floats(1, 20),
    wait=st.floats(0, 3600),
    quantile=st.floats(0.05, 0.999),
    count=st.sampled_from([1, 2, 8]),
)
def test_a_service_is_never_less_than_its_work(per_day, peak, wait, quantile, count):
    words = {"peak": peak, "wait": wait, "quantile": quantile, "count": count, "assumptions": FACTS}
    made = plan_serve("wan2.1-t2v-1.3b", per_day=per_day, **words)
    for row in made.all_rows():
        values = [row.value.low, row.value.default, row.value.high] if isinstance(row.value, Range) else [row.value]
        assert values == sorted(values), row
        assert all(math.isfinite(v) and v >= 0 for v in values if isinstance(v, (int, float))), row
    assert made["devices"].default > made["load"] * count * (1 - 1e-9)
    assert made["wait_at_quantile"] <= wait * (1 + 1e-9) + 1e-9
    assert made["always_on_usd_per_video"].default >= made["autoscaled_usd_per_video"].default * (1 - 1e-9)
    assert plan_serve("wan2.1-t2v-1.3b", per_day=2 * per_day, **words)["devices"].default >= made["devices"].default


def test_a_service_says_whether_its_model_fits():
    tight = plan_serve("wan2.2-t2v-a14b", per_day=10, device="rtx4090", size="1280x720", assumptions=FACTS)
    assert tight["fits"] is True and any("weights are more than stays on" in note for note in tight.notes)
    small = plan_serve(
        "wan2.2-t2v-a14b", per_day=10, device="rtx4090", size="1280x720", seconds=30.0, assumptions=FACTS
    )
    assert small["fits"] is False and small["peak_bytes"] > 24e9
    assert "does NOT fit" in small.summary and any("does not fit" in note for note in small.notes)
    large = plan_serve("wan2.2-t2v-a14b", per_day=10, device="b300", assumptions=FACTS)
    assert large["fits"] is True and "NOT" not in large.summary
    assert not any("weights are more" in note for note in large.notes)


def test_small_numbers_of_videos_keep_their_digits():
    assert plan_serve("world", per_day=0.5, assumptions=FACTS).title.startswith("Serve 0.5 videos")


def test_money_of_a_service_is_said_for_a_second_of_video_too():
    made = plan_serve("wan2.1-t2v-1.3b", per_day=1000, assumptions=FACTS)
    for name in ("usd", "kwh", "co2_g"):
        assert 0 < made[f"always_on_{name}_per_video_second"].default < made[f"always_on_{name}_per_video"].default


def test_your_price_is_the_price_at_every_volume():
    tables = [plan_serve("world", per_day=1000, usd_hour=usd, assumptions=FACTS).tables[0] for usd in (1.0, 2.0)]
    assert [row[-1] for row in tables[1].rows] == pytest.approx([2 * row[-1] for row in tables[0].rows])


def test_a_very_large_service_is_planned_quickly_or_refused():
    import time

    began = time.perf_counter()
    plan_serve("world", per_day=1e6, service=30_000.0, assumptions=FACTS)
    with pytest.raises(RequestError, match="at once"):
        plan_serve("world", per_day=1e10, service=1e7, assumptions=FACTS)
    assert time.perf_counter() - began < 5


def test_one_server_with_constant_service_is_pollaczek_and_khinchine():
    queue = Queue(rate=0.008, service=100.0, pipelines=1)
    assert queue.mean_wait == pytest.approx(0.8 / (2 * 0.2) * 100.0)
    random = Queue(rate=0.008, service=100.0, pipelines=1, cv2=1.0)
    assert random.mean_wait == pytest.approx(0.8 / 0.2 * 100.0)


@pytest.mark.parametrize("per_day", [10, 1_000, 100_000])
@pytest.mark.parametrize("wait", [0.0, 10.0, 300.0])
def test_one_pipeline_fewer_would_be_too_late(per_day, wait):
    queue = smallest(per_day * 2.5 / 86_400, 155.0, wait, 0.95)
    assert queue.late_chance(wait) <= 0.05 + 1e-12
    fewer = Queue(queue.rate, queue.service, queue.pipelines - 1)
    assert fewer.load >= fewer.pipelines or fewer.late_chance(wait) > 0.05


def test_the_waiting_time_of_a_share_of_jobs_inverts_the_chance_to_be_late():
    queue = Queue(rate=0.1, service=100.0, pipelines=12)
    for quantile in (0.9, 0.99):
        assert queue.late_chance(queue.wait_at(quantile)) == pytest.approx(1 - quantile)
    assert queue.wait_at(0.01) == 0.0


@pytest.mark.parametrize(
    ("rate", "service", "pipelines"), [(0.02, 100.0, 4), (0.05, 155.0, 12), (10_000 * 2.5 / 86_400, 147.0, 46)]
)
def test_a_played_day_agrees_with_the_formula_within_a_tenth(rate, service, pipelines):
    queue = Queue(rate, service, pipelines)
    days, seeds = (10.0, 8) if FULL else (6.0, 3)
    played = [simulate(queue, 60.0, seed=seed, days=days) for seed in range(seeds)]
    jobs = sum(day.jobs for day in played)
    mean = sum(day.mean_wait * day.jobs for day in played) / jobs
    assert mean == pytest.approx(queue.mean_wait, rel=0.10)
    busy = sum(day.utilisation for day in played) / seeds
    assert busy == pytest.approx(queue.load / pipelines, rel=0.05)


def test_a_day_with_highs_and_lows_agrees_within_a_tenth():
    queue = Queue(0.05, 155.0, 12)
    played = [simulate(queue, 60.0, seed=seed, days=20.0, peak=2.5, profile=True) for seed in range(4)]
    jobs = sum(day.jobs for day in played)
    assert sum(day.mean_wait * day.jobs for day in played) / jobs == pytest.approx(
        mean_wait_of_day(queue, 2.5), rel=0.10
    )
    busy = sum(day.utilisation for day in played) / len(played)
    assert busy == pytest.approx(queue.load / 2.5 / queue.pipelines, rel=0.05)


def test_a_plan_plays_days_beside_its_formula():
    made = plan_serve("world", per_day=1000, service=147.0, play_a_day=True, assumptions=FACTS)
    assert made["simulated_mean_wait"] == pytest.approx(made["mean_wait_seconds"], rel=0.10)
    assert made["simulated_mean_wait_of_day"] == pytest.approx(made["mean_wait_of_day_seconds"], rel=0.10)
    assert made["simulated_utilisation"] == pytest.approx(made["utilisation_day"], rel=0.05)
    with pytest.raises(RequestError, match="too long to play"):
        plan_serve("world", per_day=1e7, play_a_day=True, assumptions=FACTS)


@pytest.mark.parametrize("peak", [1.0, 1.5, 2.0, 2.5, 8.0])
def test_the_days_rate_has_its_peak_and_its_average(peak):
    moments = [share_of_peak((step + 0.5) / 2000, peak) for step in range(2000)]
    assert max(moments) == pytest.approx(1.0, abs=0.01) and min(moments) >= 0
    assert sum(moments) / len(moments) == pytest.approx(1 / peak, rel=0.01)


def test_the_worked_table():
    """Facts 6.1: peak factor 2.5, at most 60 s for 95 %; within one pipeline (ours corrects for many)."""
    for service, count, devices in ((155.1, 8, (56, 384, 3624)), (1041.5, 1, (38, 317, 3036)), (95.4, 1, (5, 30, 279))):
        for per_day, wanted in zip((1_000, 10_000, 100_000), devices, strict=True):
            found = smallest(per_day * 2.5 / 86_400, service, 60.0, 0.95).pipelines * count
            assert abs(found - wanted) <= count, (service, per_day)


def test_a_service_is_planned():
    made = plan_serve("wan2.2-ti2v-5b", per_day=10_000, assumptions=FACTS)
    assert made["devices"].default * 86_400 > made["service_seconds"].default * 10_000 * 2.5
    assert made["autoscaled_usd_per_video"].default < made["always_on_usd_per_video"].default
    assert 0 < made["utilisation_day"] < made["utilisation_peak"] < 1
    assert all(math.isfinite(row.value) for row in made.all_rows() if isinstance(row.value, float))
    busier = plan_serve("wan2.2-ti2v-5b", per_day=20_000, assumptions=FACTS)
    assert busier["devices"].default > made["devices"].default
    patient = plan_serve("wan2.2-ti2v-5b", per_day=10_000, wait=3600, assumptions=FACTS)
    assert patient["devices"].default <= made["devices"].default


@pytest.mark.parametrize(
    "words",
    [
        {"per_day": 0},
        {"peak": 0.5},
        {"wait": -1},
        {"quantile": 1.0},
        {"count": 0},
        {"service": -5.0},
        {"service": 0.0},
        {"service": math.nan},
    ],
)
def test_a_service_that_means_nothing_is_refused(words):
    with pytest.raises(RequestError, match=next(iter(words))):
        plan_serve("world", **{"per_day": 10, "assumptions": FACTS, **words})
