"""The formulas against what others published: training runs, latencies, energies, prices."""

import re
from dataclasses import replace
from statistics import geometric_mean

import pytest

from sorano.plan import laws
from sorano.plan.assumptions import load_assumptions, number
from sorano.plan.claims import CLIPS, attention_factor, explain, sora
from sorano.plan.estimate import Range
from sorano.plan.flops import find_model, published
from sorano.plan.hardware import find_device
from sorano.plan.money import costs
from sorano.plan.training import device_hours
from sorano.shapes import VideoShape, parse_size

FACTS = load_assumptions()
MEASURED = {row["name"]: row for row in FACTS.table("measured")}


def denoise(row):
    """FLOPs of the passes of a measured row, by part."""
    width, height = parse_size(row["size"])
    shape = VideoShape(int(row["frames"]), height, width)
    return find_model(FACTS, row["model"]).forward(shape).times(int(row["steps"]) * int(row["branches"]))


def test_step_videos_training_flops_of_a_sample():
    rows = [row for name, row in MEASURED.items() if name.startswith("stepvideo")]
    assert len(rows) == 4
    for row in rows:
        assert 3 * denoise(row).total / 1e12 == pytest.approx(float(row["seconds"]), rel=1e-3), row["name"]


@pytest.mark.parametrize(("device", "tolerance"), [("h100", 0.15), ("b200", 0.25)])
def test_one_share_of_peak_explains_the_latencies_of_five_models(device, tolerance):
    rows = [row for name, row in MEASURED.items() if name.startswith("mle-") and name.endswith(f"-{device}")]
    rows = [row for row in rows if row["count"] == "1"]
    assert len(rows) == 5
    rate, share = find_device(FACTS, device).flops_per_second, FACTS.constant(f"infer.{device}")
    for row in rows:
        predicted = denoise(row).total / (rate * share.value)
        assert predicted == pytest.approx(float(row["seconds"]), rel=tolerance), row["name"]
        assert share.low <= denoise(row).total / rate / float(row["seconds"]) <= share.high + 0.03, row["name"]


@pytest.mark.parametrize("device", ["h100", "b200"])
def test_energy_is_nine_tenths_of_the_boards_power(device):
    rows = [row for name, row in MEASURED.items() if name.endswith(f"-{device}") and row["kilojoules"]]
    watts, share = find_device(FACTS, device).watts, FACTS.constant("energy.tdp").value
    for row in [row for row in rows if row["count"] == "1"]:
        assert share * watts * float(row["seconds"]) / 1e3 == pytest.approx(float(row["kilojoules"]), rel=0.2), row[
            "name"
        ]


@pytest.mark.parametrize("device", ["a100", "h20"])
def test_one_share_of_peak_explains_two_sizes_of_wan(device):
    rows = [MEASURED[f"readme-wan2.2-a14b-{size}-{device}"] for size in ("480p", "720p")]
    rate = find_device(FACTS, device).flops_per_second
    reached = [denoise(row).total / rate / float(row["seconds"]) for row in rows]
    share = geometric_mean(reached)
    assert all(one == pytest.approx(share, rel=0.08) for one in reached)
    fact = FACTS.constant(f"infer.{device}")
    assert fact.low <= share <= fact.high


def test_attention_and_the_rest_have_shares_of_their_own_where_both_were_measured():
    rate = find_device(FACTS, "h100").flops_per_second
    fast, slow = (FACTS.constant(f"infer.h100.fa3.{part}").value for part in ("attention", "linear"))
    for size in ("480p", "720p"):
        row = MEASURED[f"readme-wan2.2-a14b-{size}-h100"]
        parts = denoise(row)
        predicted = parts.attention / rate / fast + (parts.linear + parts.rest) / rate / slow
        assert predicted == pytest.approx(float(row["seconds"]), rel=0.05), size


def test_gpt3_and_sora_by_six_n_d():
    claim = explain("sora-2024")
    assert claim["tokens"] == pytest.approx(4.667e12, rel=1e-3)
    assert claim["times_gpt3"] == pytest.approx(2.675, abs=5e-4)
    assert explain("gpt-3")["flops_6nd"] == 3.15e23
    assert 2.66 < sora(FACTS).flops / explain("gpt-3")["flops_6nd"] < 2.68


def test_what_attention_adds_to_the_claim():
    like = published(FACTS, "movie-gen-30b")
    assert like.parameters == pytest.approx(25.4e9, rel=0.005)
    for tokens, factor in ((8_192, 1.19), (73_728, 2.71), (739_800, 18.2), (1_479_600, 35.4)):
        assert attention_factor(like.layers, like.width, like.parameters, tokens) == pytest.approx(factor, rel=0.005)


def test_clips_of_the_claim_are_called_what_they_are():
    like = published(FACTS, "movie-gen-30b")
    for what, seconds, height, width in (
        ("one minute of 720p", 60, 720, 1280),
        ("half a minute of 1080p", 30, 1080, 1920),
        ("one minute of 1080p", 60, 1080, 1920),
    ):
        assert dict(CLIPS)[what] == pytest.approx(like.tokens(VideoShape(24 * seconds, height, width)), rel=0.01)
    shown = next(table for table in explain("sora-2024").tables if table.title.startswith("What attention"))
    assert {row[:2] for row in shown.rows} == set(CLIPS)


def test_a_claims_numbers_are_rows_of_the_tables(tmp_path):
    mine = tmp_path / "mine.toml"
    mine.write_text(
        "[constants.claim.language.decode]\nvalue = 0.1\n[constants.claim.chatgpt.words_per_day]\nvalue = 9e9\n"
    )
    usual, made = (explain("chatgpt-2023", assumptions=assumptions) for assumptions in (FACTS, load_assumptions(mine)))
    assert (usual["a100_by_arithmetic"], usual["a100_in_practice"]) == pytest.approx((260, 1560), rel=0.01)
    assert made["words_per_day"] == 9e9 and made["a100_in_practice"] == pytest.approx(usual["a100_in_practice"])
    known = {fact.name: fact for fact in usual.assumptions}
    assert {known[f"claim.language.{name}"].tag for name in ("arithmetic", "decode")} == {"A"}
    whys = {row.name: row.why for row in usual.rows}
    assert all(whys[name].startswith("assumption: ") for name in ("a100_by_arithmetic", "a100_in_practice"))
    prices = explain("gpt-3").tables[0].rows
    assert [row[1] for row in prices] == [1.4e6, 4.6e6, 12e6]


@pytest.mark.parametrize(("name", "billions"), [("wan2.1-t2v-14b", 14.05), ("wan2.1-t2v-1.3b", 1.39)])
def test_the_blocks_of_wan(name, billions):
    transformer = find_model(FACTS, name).configs.transformer
    assert transformer.num_layers * transformer.block_parameters() / 1e9 == pytest.approx(billions, rel=0.01)


@pytest.mark.parametrize(("run", "device"), [("palm-540b", "tpu-v4"), ("llama-3.1-405b", "h100")])
def test_hours_need_goodput(run, device):
    row, where = FACTS.row("runs", run), find_device(FACTS, device)
    flops, hours = number(row, "flops_reported", "runs"), number(row, "gpu_hours", "runs")
    quoted = float(re.findall(r"[\d.]+", row["mfu_reported_pct"])[-1]) / 100  # "38-43 (40.4 Epoch)"
    goodput = FACTS.constant(f"goodput.{run}").value
    assert device_hours(flops, where, quoted, goodput) == pytest.approx(hours, rel=0.10)
    assert device_hours(flops, where, quoted, 1.0) != pytest.approx(hours, rel=0.10)


def test_seaweeds_hours_and_flops_agree_with_its_share():
    row = FACTS.row("runs", "seaweed-7b")
    hours, share = number(row, "gpu_hours", "runs"), number(row, "mfu_reported_pct", "runs") / 100
    assert hours == 665_000
    assert hours * 3600 * find_device(FACTS, "h100").flops_per_second * share == pytest.approx(9.0e23, rel=0.01)


def test_open_soras_money():
    hours = number(FACTS.row("runs", "open-sora-2.0"), "gpu_hours", "runs")
    rows, _ = costs(FACTS, find_device(FACTS, "h200"), Range(*3 * [hours * 3600]), usd_hour=2.0)
    usd = next(row.value for row in rows if row.name == "usd")
    assert usd.default == pytest.approx(199_600, rel=1e-3)


def test_hunyuanvideos_law_at_its_own_point():
    optimum = laws.hunyuan(FACTS, 7.0e22)
    assert (optimum.parameters, optimum.tokens) == pytest.approx((13.0e9, 927e9), rel=0.01)
    images = laws.hunyuan(FACTS, 5.8e22, "hunyuanvideo-images")
    assert (images.parameters, images.tokens) == pytest.approx((13.0e9, 740e9), rel=0.02)


def test_the_other_law_returns_its_own_example():
    assert laws.precise(FACTS, 1.82e24).parameters == pytest.approx(18.05e9, rel=0.01)


@pytest.mark.parametrize("model", ["hunyuanvideo-13b", "open-sora-2-11b"])
def test_models_with_two_streams_use_half_of_their_weights_for_a_token(model):
    found = published(FACTS, model)
    assert 0.45 < found.parameters / found.all_parameters < 0.62


def test_movie_gens_last_stage_at_its_mean_length():
    like = published(FACTS, "movie-gen-30b")
    stage = [number(row, "samples_seen", "runs") for row in FACTS.table("runs") if row["name"] == "movie-gen-video-3"]
    flops = 3 * stage[0] * like.forward_of_tokens(46_080).total
    assert flops == pytest.approx(1.07e24, rel=0.02)
    assert flops / (915e3 * 3600 * find_device(FACTS, "h100").flops_per_second) == pytest.approx(0.33, abs=0.01)


def test_tokens_of_published_shapes():
    shapes = {
        ("wan2.1-t2v-14b", 81, 480, 832): 32_760,
        ("wan2.1-t2v-14b", 81, 720, 1280): 75_600,
        ("wan2.1-t2v-14b", 121, 720, 1280): 111_600,
        ("hunyuanvideo-13b", 129, 720, 1280): 118_800,
        ("step-video-30b", 204, 192, 320): 8_640,
        ("cogvideox1.5-5b", 81, 768, 1360): 11 * 48 * 85,
        ("wan2.2-ti2v-5b", 121, 704, 1280): 27_280,
    }
    for (model, frames, height, width), tokens in shapes.items():
        assert find_model(FACTS, model).tokens(VideoShape(frames, height, width)) == tokens


def test_a_changed_formula_would_be_seen():
    """The tolerance of Step-Video's rows is narrow: leaving out its text alone breaks it."""
    model = replace(published(FACTS, "step-video-30b"), text_tokens=0)
    assert 3 * model.forward_of_tokens(256).total / 1e12 != pytest.approx(44.99, rel=1e-2)
