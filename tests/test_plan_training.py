"""What a training run is said to take."""

import math

import pytest

from sorano.errors import RequestError
from sorano.plan import laws
from sorano.plan.estimate import Range
from sorano.plan.facts import load_facts
from sorano.plan.flops import find_model
from sorano.plan.hardware import find_device
from sorano.plan.parallel import fsdp_bytes
from sorano.plan.training import Stage, plan_train, smallest_context, stage_flops, train_memory

FACTS = load_facts()


def test_movie_gens_stages_and_hours():
    made = plan_train("movie-gen-30b", count=6144, facts=FACTS)
    assert made["flops"] == pytest.approx(7.6e22 + 5.86e23 + 1.07e24, rel=0.03)
    hours = made["device_hours"]
    assert hours.low < 1.25e6 < hours.high and hours.low < 2.03e6 < hours.high  # two published estimates
    assert made["days"].default == pytest.approx(hours.default / 6144 / 24)


def test_training_costs_three_passes():
    model = find_model(FACTS, "wan2.1-t2v-1.3b")
    stage = Stage(name="one", samples=10.0, size="832x480", frames=81)
    assert stage_flops(model, stage) == 30 * model.forward(model.shape("832x480", None, None)).total


def test_memory_of_wan_14b_as_its_report_says():
    """Facts 4.5: 111,600 tokens; 7.2 GB of states over 32, 5.7 GB of kept inputs and 4.3 GB computed again at 8."""
    model = find_model(FACTS, "wan2.1-t2v-14b")
    parts = train_memory(FACTS, model, 111_600, shards=32, context=8)
    transformer_states = 16 * model.parameters / 32
    assert transformer_states == pytest.approx(7.2e9, rel=0.02)
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
    made = plan_train(flops=8.4e23, facts=FACTS)
    assert made["hunyuanvideo_parameters"] == pytest.approx(32.0e9, rel=0.01)
    assert made["hunyuanvideo_tokens"] == pytest.approx(4.43e12, rel=0.01)
    assert made["precise_parameters"] == pytest.approx(13.1e9, rel=0.01)
    spent = next(table for table in made.tables if table.title.startswith("Who"))
    assert spent.rows[0][0] in ("Llama 2 70B", "Sora (2024), Galaxy Securities estimate, single run", "Seaweed-7B")


def test_batch_and_rate_of_a_large_run():
    assert laws.batch_tokens(30e9, 4.4e12) == pytest.approx(3.7e7, rel=0.03)
    assert laws.learning_rate(30e9, 4.4e12) == pytest.approx(7.9e-5, rel=0.03)


@pytest.mark.parametrize("parameters", [1e8, 1.3e9, 30e9, 1e12])
def test_larger_models_cost_more_and_nothing_is_negative(parameters):
    one, two = (plan_train(parameters=p, facts=FACTS) for p in (parameters, 2 * parameters))
    assert two["flops"] > one["flops"] and two["device_hours"].default > one["device_hours"].default
    for row in one.all_rows():
        for value in [row.value.low, row.value.high] if isinstance(row.value, Range) else [row.value]:
            if isinstance(value, (int, float)):
                assert math.isfinite(value) and value >= 0, row


def test_the_whole_programme_costs_more_than_the_run():
    made = plan_train("step-video-30b", facts=FACTS)
    assert made["programme_usd"].default == pytest.approx(2.0 * 1.12 * made["usd"].default)


def test_stages_are_read_from_toml(tmp_path):
    file = tmp_path / "stages.toml"
    file.write_text(
        'model = "wan2.1-t2v-1.3b"\ndevice = "h200"\ncount = 64\n'
        '[[stage]]\nname = "pictures"\nsamples = 1e8\nsize = "256x256"\nbatch = 1024\n'
        '[[stage]]\nname = "clips"\nsamples = 1e6\nsize = "832x480"\nframes = 81\nmfu = 0.4\n'
    )
    made = plan_train(config=file, facts=FACTS)
    assert "64 x H200" in made.title and [row[0] for row in made.tables[0].rows] == ["pictures", "clips"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('model = "world"\nstages = 3\n', "line 2.*'stages'"),
        ('model = "world"\n[[stage]]\nname = "a"\nsampels = 3\n', "line 4.*'sampels'"),
        ('model = "world"\n[[stage]]\nname = "a"\n', "no samples"),
        ('model = "world"\n[[stage]]\nname = "a"\nsamples = -3\n', "line 4.*samples"),
        ('model = "world"\n', r"no \[\[stage\]\]"),
        ('[[stage]]\nname = "a"\nsamples = 3\n', "model or parameters"),
        ("model = \n", "not TOML"),
    ],
)
def test_a_config_that_is_wrong_is_said_with_its_line(tmp_path, text, said):
    file = tmp_path / "stages.toml"
    file.write_text(text)
    with pytest.raises(RequestError, match=said):
        plan_train(config=file, facts=FACTS)


@pytest.mark.parametrize(
    "words", [{}, {"preset": "world", "flops": 1e20}, {"flops": -1.0}, {"parameters": 3.0}, {"flops": 1e20, "count": 0}]
)
def test_contradictions_and_absurd_numbers_are_refused(words):
    with pytest.raises(RequestError):
        plan_train(facts=FACTS, **words)


def test_our_own_model_comes_with_its_command():
    notes = plan_train("world", facts=FACTS).notes
    assert any("sorano train world --recipe gpu" in note for note in notes)
