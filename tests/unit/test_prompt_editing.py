"""Changes merged into what a video says of itself."""

import pytest

from sorano.presets import find_preset
from sorano.prompt_editing import merged
from sorano.sources import saved_prompt
from sorano.world.caption import parse

WORLD = find_preset("world")
SAVED = "a red ball bounces on the grass at sunset"


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        ("it is night", "time", "night"),
        ("on the snow", "ground", "snow"),
        ("the camera pans left", "camera", "pans left"),
        ("夜晚", "time", "night"),
    ],
)
def test_a_change_of_the_scene_leaves_the_thing(words, field, value):
    after, before = parse(merged(SAVED, words, WORLD.captions)), parse(SAVED)
    assert getattr(after, field) == value and after.things == before.things


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [("make it blue", "color", "blue"), ("a cube", "kind", "cube"), ("it jumps", "motion", "jumps")],
)
def test_a_change_of_the_thing_leaves_the_scene(words, field, value):
    after, before = parse(merged(SAVED, words, WORLD.captions)), parse(SAVED)
    assert getattr(after.things[0], field) == value
    assert (after.ground, after.time) == (before.ground, before.time)


def test_a_whole_prompt_replaces_the_saved_one():
    whole = "a blue cube spins on the snow at night"
    for captions in (WORLD.captions, None):
        assert merged(SAVED, whole, captions) == whole


def test_other_models_are_told_after_the_rest():
    assert merged("A fox runs.", "it is raining") == "A fox runs, it is raining"
    assert merged("A fox runs.", "in winter") == "A fox runs, in winter"


def test_a_file_without_a_record_says_nothing(tmp_path):
    assert saved_prompt(tmp_path / "none.mp4") is None
