"""What a training run is said to take."""

import json
import math
from itertools import pairwise
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sorano.cli import app
from sorano.errors import RequestError
from sorano.plan import laws
from sorano.plan.assumptions import load_assumptions
from sorano.plan.claims import number_of
from sorano.plan.estimate import Range
from sorano.plan.flops import find_model
from sorano.plan.hardware import find_device
from sorano.plan.parallel import fsdp_bytes, kept_share, ring_bytes, ring_exposed_seconds, split_tokens
from sorano.plan.training import (
    Stage,
    device_hours,
    plan_step,
    plan_train,
    read_stages,
    smallest_context,
    stage_flops,
    train_memory,
    trained_parameters,
    working_share,
)
from sorano.train.ranks import Ranks
from sorano.train.recipes import RECIPES

FACTS = load_assumptions()


def test_movie_gens_stages_and_hours():
    made = plan_train("movie-gen-30b", count=6144, assumptions=FACTS)
    assert made["flops"] == pytest.approx(7.6e22 + 5.86e23 + 1.07e24, rel=0.03)
    hours = made["device_hours"]
    assert hours.low < 1.25e6 < hours.high and hours.low < 2.03e6 < hours.high  # two published estimates
    assert made["days"].default == pytest.approx(hours.default / 6144 / 24)


@pytest.mark.parametrize(("stage", "tolerance"), [(1, 0.2), (3, 0.1)])  # the second doubled its devices on the way
def test_movie_gens_days_on_the_wall(stage, tolerance):
    """54 h and 149 h on up to 6,144 H100: the first is exchange more than work, as a card a device would not allow."""
    made = plan_train("movie-gen-30b", count=6144, assumptions=FACTS)
    hours = 24 * made.tables[0].rows[stage - 1][made.tables[0].columns.index("days")]
    assert hours == pytest.approx(number_of(FACTS.row("runs", f"movie-gen-video-{stage}")["gpu_hours"]), rel=tolerance)


def test_step_videos_hours():
    hours = plan_train("step-video-30b", device="h800", count=2992, assumptions=FACTS)["device_hours"]
    assert 0.57e6 < hours.default < 1.82e6  # derived from its 32 % and its clips, whose mix was not published


def test_training_costs_three_passes():
    model = find_model(FACTS, "wan2.1-t2v-1.3b")
    stage = Stage(name="one", samples=10.0, size="832x480", frames=81)
    assert stage_flops(model, stage) == 30 * model.forward(model.shape("832x480", None, None)).total


def test_memory_of_wan_14b_as_its_report_says():
    """Facts 4.5: 111,600 tokens; 7.2 GB of states over 32, 5.7 GB of kept inputs and 4.3 GB computed again at 8."""
    model = find_model(FACTS, "wan2.1-t2v-14b")
    parts = train_memory(FACTS, model, 111_600, shards=32, context=8)
    assert parts["states"] == pytest.approx(7.2e9, rel=0.02)
    assert parts["kept activations"] == pytest.approx(5.7e9, rel=0.01)
    assert parts["block computed again"] == pytest.approx(4.3e9, rel=0.01)
    whole = train_memory(FACTS, model, 1_000_000, shards=1, context=1, checkpointing=False)
    assert whole["kept activations"] > 8e12  # the report: "can exceed 8 TB"
    assert fsdp_bytes(14.3e9) == pytest.approx(115e9, rel=0.01)


def test_long_samples_are_shared_until_they_fit():
    model, h100 = find_model(FACTS, "wan2.1-t2v-14b"), find_device(FACTS, "h100")
    few, _ = smallest_context(FACTS, model, 8_000, h100, 1024)
    many, parts = smallest_context(FACTS, model, 500_000, h100, 1024)
    assert few == 1 < many and sum(parts.values()) < h100.memory_bytes


def test_a_budget_shows_both_laws_side_by_side():
    made = plan_train(flops=8.4e23, assumptions=FACTS)
    assert made["hunyuanvideo_parameters"] == pytest.approx(32.0e9, rel=0.01)
    assert made["hunyuanvideo_tokens"] == pytest.approx(4.43e12, rel=0.01)
    assert made["precise_parameters"] == pytest.approx(13.1e9, rel=0.01)
    spent = next(table for table in made.tables if table.title.startswith("Who"))
    assert spent.rows[0][0] in ("Llama 2 70B", "Sora (2024), Galaxy Securities estimate, single run", "Seaweed-7B")


def test_batch_and_rate_of_a_large_run():
    assert laws.batch_tokens(FACTS, 30e9, 4.4e12) == pytest.approx(3.7e7, rel=0.03)
    assert laws.learning_rate(FACTS, 30e9, 4.4e12) == pytest.approx(7.9e-5, rel=0.03)


@pytest.mark.parametrize("parameters", [1e8, 1.3e9, 30e9, 1e12])
def test_larger_models_cost_more_and_nothing_is_negative(parameters):
    one, two = (plan_train(parameters=p, assumptions=FACTS) for p in (parameters, 2 * parameters))
    assert two["flops"] > one["flops"] and two["device_hours"].default > one["device_hours"].default
    for row in one.all_rows():
        for value in [row.value.low, row.value.high] if isinstance(row.value, Range) else [row.value]:
            if isinstance(value, (int, float)):
                assert math.isfinite(value) and value >= 0, row


def test_the_whole_programme_costs_more_than_the_run():
    made = plan_train("step-video-30b", assumptions=FACTS)
    assert made["programme_usd"].default == pytest.approx(2.0 * 1.12 * made["usd"].default)


def test_stages_are_read_from_toml(tmp_path):
    file = tmp_path / "stages.toml"
    file.write_text(
        'model = "wan2.1-t2v-1.3b"\ndevice = "h200"\ncount = 64\n'
        '[[stage]]\nname = "pictures"\nsamples = 1e8\nsize = "256x256"\nbatch = 1024\n'
        '[[stage]]\nname = "clips"\nsamples = 1e6\nsize = "832x480"\nframes = 81\nmfu = 0.4\n'
    )
    made = plan_train(config=file, assumptions=FACTS)
    assert "64 x H200" in made.title and [row[0] for row in made.tables[0].rows] == ["pictures", "clips"]


HEAD = 'model = "world"\n'
FIRST = '[[stage]]\nname = "a"\nsamples = 1e6\nframes = 1\nsize = "64x64"\ncount = 2\nmfu = 0.3\n'  # lines 2 to 8


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('model = "world"\nstages = 3\n', "line 2: the key 'stages'"),
        ('model = "world"\n[[stage]]\nname = "a"\nsampels = 3\n', "line 4: the key 'sampels'"),
        (HEAD + FIRST + '[[stage]]\nname = "b"\nsampels = 3\n', "line 11: the key 'sampels'"),
        ('model = "world"\n[[stage]]\nname = "a"\n', "line 2: this stage has no samples"),
        (HEAD + FIRST + '[[stage]]\nname = "b"\n', "line 9: this stage has no samples"),
        ('model = "world"\n', r"no \[\[stage\]\]"),
        ('model = "world"\nstage = [1, 2]\n', r"no \[\[stage\]\]"),
        ('[[stage]]\nname = "a"\nsamples = 3\n', "model or parameters"),
        ("model = \n", "not TOML"),
        ('model = "wrold"\n' + FIRST, "line 1: there is no model 'wrold'"),
        (HEAD + 'device = "h1000"\n' + FIRST, "line 2: there is no device 'h1000'"),
        *(
            (f"{HEAD}{key} = {value}\n{FIRST}", f"line 2: {key} is .* and must be")
            for key, value in [("count", 0), ("count", -5), ("count", '"many"'), ("count", 1.5), ("device", 3)]
        ),
        *((f"parameters = {value}\n{FIRST}", "line 1: parameters is") for value in ('"many"', -3, 3e30, "nan", "true")),
        *(
            (f'{HEAD}{FIRST}[[stage]]\nname = "b"\nsamples = 1e6\n{key} = {value}\n', f"line 12: {said}")
            for key, value, said in [
                ("size", 256, "size is 256, and must be a text"),
                ("size", '"abc"', "size must be WIDTHxHEIGHT"),
                ("mfu", 35, "mfu is 35, and must be a number from 0.001 to 1"),
                ("frames", 1.5, "frames is 1.5, and must be a whole number"),
                ("frames", 1e10, "frames is"),
                ("count", 0.5, "count is 0.5, and must be a whole number"),
                ("batch", "true", "batch is True"),
                ("clips", "inf", "clips is inf"),
            ]
        ),
        *((f'{HEAD}{FIRST}[[stage]]\nname = "b"\nsamples = {v}\n', "line 11: samples is") for v in (-3, "true", "nan")),
    ],
)
def test_a_config_that_is_wrong_is_said_with_its_line(tmp_path, text, said):
    file = tmp_path / "stages.toml"
    file.write_text(text)
    with pytest.raises(RequestError, match=said):
        plan_train(config=file, assumptions=FACTS)


@pytest.mark.parametrize(
    "words",
    [
        {},
        {"preset": "world", "flops": 1e20},
        {"flops": -1.0},
        {"parameters": 3.0},
        {"parameters": math.nan},
        {"flops": 1e20, "count": 0},
        {"preset": "gpt-3"},
    ],
)
def test_contradictions_and_absurd_numbers_are_refused(words):
    with pytest.raises(RequestError):
        plan_train(assumptions=FACTS, **words)


def test_our_own_model_comes_with_the_command_that_makes_it():
    made = plan_train("world", assumptions=FACTS)
    commands = [note for note in made.notes if note.startswith("sorano train world --recipe ")]
    assert {note.split()[4] for note in commands} == {"cpu", "gpu"} <= set(RECIPES)
    lines = {count: " ".join(plan_train("world", count=count, assumptions=FACTS).notes) for count in (8, 16)}
    assert "torchrun --standalone --nproc-per-node 8 -m sorano train world --recipe gpu" in lines[8]
    assert "--nnodes 2" in lines[16] and "--nproc-per-node 8" in lines[16]
    gpu = RECIPES["gpu"]
    batches = [stage.batch_size for stage in (gpu.frames, gpu.clips, gpu.reading, gpu.flow, gpu.verbs)]
    assert all(Ranks(0, count).share(batch) for batch in batches for count in (8, 16))
    stages, known = read_stages(FACTS, "world")
    flow, verbs, grid = RECIPES["cpu"].flow, RECIPES["cpu"].verbs, RECIPES["cpu"].size
    for stage, recipe in zip(stages, (flow, verbs), strict=True):
        assert (stage.samples, stage.batch) == (recipe.num_steps * recipe.batch_size, recipe.batch_size)
        assert (stage.frames, stage.size) == (recipe.num_frames, f"{grid}x{grid}")
    assert made["trained_parameters"] == RECIPES["cpu"].transformer.parameters()
    assert all(fact.tag == "P" for fact in known)


STAGES = """
device = "h200"
count = 64
[[stage]]
name = "pictures"
samples = 1e8
batch = 1024
[[stage]]
name = "clips"
samples = 1e5
size = "832x480"
frames = 81
count = 8
batch = 64
"""


@pytest.fixture
def config(tmp_path):
    file = tmp_path / "stages.toml"
    file.write_text('model = "wan2.1-t2v-1.3b"' + STAGES)
    return file


def test_days_are_those_of_the_stages_on_their_own_devices(config):
    made = plan_train(config=config, assumptions=FACTS)
    rows = made.tables[0].rows
    hours, days = (made.tables[0].columns.index(name) for name in ("device-hours", "days"))
    assert made["days"].default == pytest.approx(sum(row[days] for row in rows))
    assert [row[hours] / row[days] / 24 for row in rows] == pytest.approx([64, 8])
    assert made["device_hours"].default == pytest.approx(sum(row[hours] for row in rows))
    assert "8 to 64 x H200" in made.title


def test_what_is_asked_for_stands_over_the_file_and_is_said(config):
    asked = plan_train(config=config, device="a100", count=16, assumptions=FACTS)
    assert "8 to 16 x A100" in asked.title
    assert sum("stands over" in note for note in asked.notes) == 2
    same = plan_train(config=config, device="h200", assumptions=FACTS)
    assert "8 to 64 x H200" in same.title and not any("stands over" in note for note in same.notes)


def test_networks_that_stand_still_have_no_gradients():
    made = plan_train("wan2.1-t2v-1.3b", count=1, assumptions=FACTS)
    assert made["states_bytes"] == pytest.approx(22.7e9, rel=0.01)
    assert made["checkpoint_bytes"] == pytest.approx(17e9, rel=0.01)
    two = find_model(FACTS, "wan2.2-t2v-a14b")  # two experts, trained one at a time
    assert trained_parameters(two) == pytest.approx(14.3e9, rel=0.01)
    assert trained_parameters(find_model(FACTS, "hunyuanvideo-13b")) == 13e9


def test_two_streams_gather_blocks_of_both():
    model = find_model(FACTS, "hunyuanvideo-13b")
    parts = train_memory(FACTS, model, 1, shards=1, context=1)
    assert parts["gathered blocks"] == pytest.approx(6 * 13e9 / 60)


def test_devices_help_as_far_as_the_batch_reaches():
    def days(count):
        return plan_train("movie-gen-30b", count=count, assumptions=FACTS)

    few, many, most = (days(count) for count in (512, 4096, 200_000))
    assert few["days"].default > many["days"].default > most["days"].default
    assert few["days"].default / many["days"].default < 8
    last = next(table for table in most.tables if table.title == "A step on its devices").rows[-1]
    assert last[:5] == ("768 px, mean clip of 10 s", 200_000, 6400, "Ulysses 8", 800)
    assert any("6,400 of 200,000 devices work" in note for note in most.notes)
    assert most["days"].default == pytest.approx(days(100_000)["days"].default)  # nothing is gained by twice as many
    assert not any("devices work" in note for note in few.notes)


@pytest.mark.parametrize("device", ["h100", "rtx4090", "gb200"])
def test_more_devices_are_never_slower_but_for_what_they_exchange(device):
    days = [
        plan_train("wan2.1-t2v-1.3b", device=device, count=4**power, assumptions=FACTS)["days"] for power in range(11)
    ]
    for fewer, more in pairwise(days):
        assert more.default <= 1.001 * fewer.default


def test_what_exchange_adds_is_in_the_hours():
    model, h100 = find_model(FACTS, "step-video-30b"), find_device(FACTS, "h100")
    stage = Stage(name="pictures", samples=1e9, size="256x256", batch=1024)
    step = plan_step(FACTS, model, stage, h100, 1024, 1)
    assert step.gathered > step.compute and step.seconds == step.gathered  # 256 tokens hide nothing
    long = Stage(name="clips", samples=1e6, size="992x544", frames=204, batch=512)
    shared = plan_step(FACTS, model, long, h100, 1024, 8)
    assert shared.gathered < shared.compute < shared.seconds == shared.compute + shared.exchanged
    alone = plan_step(FACTS, model, stage, h100, 1, 1)
    assert alone.seconds == alone.compute


def test_step_videos_share_of_exchange_in_short_samples():
    """Facts 4.6: data-parallel communication above 30 % of time below 10 k tokens (4 samples a node, 204 frames)."""
    model, h800 = find_model(FACTS, "step-video-30b"), find_device(FACTS, "h800")
    step = plan_step(FACTS, model, Stage(name="a", samples=1e6, size="320x192", frames=204, batch=1500), h800, 3000, 2)
    assert 0.3 < step.gathered / (step.gathered + step.compute) < 0.6


def test_failures_cost_more_than_goodput_on_many_devices():
    goodput = FACTS.constant("goodput").value
    assert working_share(FACTS, 8) == working_share(FACTS, 1024) == goodput
    shares = [working_share(FACTS, 10**power) for power in (4, 5, 6, 7)]
    assert goodput > shares[0] > shares[1] > shares[2] > shares[3] > 0
    notes = plan_train("movie-gen-30b", count=6144, assumptions=FACTS).notes
    assert any("more than the 5 % of goodput" in note for note in notes)


def test_the_page_about_plans_says_what_failures_cost_and_its_stages_can_be_planned(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "plan.md").read_text(encoding="utf-8")
    assert "a thousand devices lose 2.6 %" in page and "a hundred thousand nearly a quarter" in page
    apart, write = (
        FACTS.constant(f"restart.{name}").value for name in ("hours_between_failures", "checkpoint_seconds")
    )
    lost = [1 - kept_share(apart * 3600 / count, write) for count in (1e3, 1e5)]
    assert lost == pytest.approx([0.026, 0.24], abs=0.003)
    file = tmp_path / "stages.toml"
    file.write_text(page.partition("# stages.toml\n")[2].partition("\n\n")[0])
    assert len(plan_train(config=file, assumptions=FACTS).tables[0].rows) == 2


def test_one_device_exchanges_nothing_and_says_nothing_of_it():
    made = plan_train("wan2.1-t2v-1.3b", count=1, assumptions=FACTS)
    assert not any("FSDP" in note or "fails" in note for note in made.notes)
    assert [table.title for table in made.tables][1].startswith("Where")
    assert made["device_hours"].default == pytest.approx(
        device_hours(made["flops"], find_device(FACTS, "h100"), 0.35, FACTS.constant("goodput").value)
    )


def test_a_ring_within_a_node_goes_over_its_links():
    model, h100 = find_model(FACTS, "wan2.1-t2v-1.3b"), find_device(FACTS, "h100")  # 12 heads
    rates = {"link_share": 0.8, "nic_bytes_per_second": 40e9}
    inside, across = split_tokens(8, 12, 8), split_tokens(16, 12, 8)
    assert (inside.ring, across.ring) == (2, 4)
    sent = ring_bytes(32_760 // inside.ulysses, model.width, model.layers, 2)
    exposed = ring_exposed_seconds(model, 32_760, inside, h100, 0.0, **rates)
    assert exposed == pytest.approx(sent / (450e9 * 0.8))
    sent = ring_bytes(32_760 // across.ulysses, model.width, model.layers, 4)
    assert ring_exposed_seconds(model, 32_760, across, h100, 0.0, **rates) == pytest.approx(sent / 40e9)


@pytest.mark.parametrize("words", [{"preset": "wan2.1-t2v-1.3b"}, {"parameters": 3e9}])
def test_stages_that_nobody_published_are_called_an_assumption(words):
    made = plan_train(assumptions=FACTS, **words)
    assert any("is an assumption: as many samples as Movie Gen saw" in note for note in made.notes)
    assert {fact.tag for fact in made.assumptions if fact.name.startswith("stages.")} == {"A"}
    known = plan_train("movie-gen-30b", assumptions=FACTS)
    assert {fact.tag for fact in known.assumptions if fact.name.startswith("stages.")} == {"S", "D"}
    assert not any("assumption" in note for note in known.notes)


def test_stages_and_laws_are_yours_to_override(tmp_path):
    mine = tmp_path / "mine.toml"
    mine.write_text("[stages.usual-3]\nsamples = 7.4e6\n[laws.'precise.parameters']\nfactor = 3.1574\n")
    made, usual = (
        plan_train(parameters=3e9, assumptions=assumptions) for assumptions in (load_assumptions(mine), FACTS)
    )
    assert made["flops"] < 0.3 * usual["flops"]
    assert next(fact for fact in made.assumptions if fact.name == "stages.usual-3").tag == "U"
    assert laws.precise(load_assumptions(mine), 1e24).parameters == 2 * laws.precise(FACTS, 1e24).parameters


def test_a_stage_without_a_batch_says_which_was_assumed(tmp_path):
    file = tmp_path / "stages.toml"
    file.write_text('parameters = 1e9\n[[stage]]\nname = "pictures"\nsamples = 1e9\n')
    made = plan_train(config=file, count=8, assumptions=FACTS)
    assert any("assumption: pictures: a batch of" in note for note in made.notes)


@pytest.mark.parametrize("words", ["--params many", "--params 3", "--preset gpt-3", "--count 0"])
def test_the_command_refuses_in_one_line(words):
    done = CliRunner().invoke(app, ["plan", "train", *words.split()])
    assert done.exit_code == 2 and "Traceback" not in done.output


def test_the_command_stands_over_the_file(config):
    done = CliRunner().invoke(app, ["plan", "train", "--config", str(config), "--device", "a100", "--json"])
    assert "A100" in json.loads(done.stdout)["title"]
