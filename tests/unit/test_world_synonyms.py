"""Everyday words, drawn from a thesaurus, are read as the world's."""

import json
from pathlib import Path

import pytest

from sorano.presets import PRESETS, Preset
from sorano.prompt_editing import check_words, replace_synonyms
from sorano.request import Request
from sorano.world import caption, synonyms

WORLD = PRESETS["world"]
KNOWN = WORLD.captions.words
ROWS = [
    line.split("\t")
    for line in (Path(__file__).parents[1] / "data" / "everyday_words.tsv").read_text().splitlines()
    if line
]
SENTENCES = {  # by the language and the field that the word states
    ("en", "color"): "a {} ball bounces on the grass",
    ("en", "size"): "a {} red ball bounces on the grass",
    ("en", "kind"): "a red {} bounces on the grass",
    ("en", "motion"): "a red ball {} on the grass",
    ("en", "time"): "a red ball bounces on the grass at {}",
    ("en", "ground"): "a red ball bounces on the {}",
    ("zh", "color"): "一个{}的球在草地上弹跳",
    ("zh", "size"): "一个{}的红色的球在草地上弹跳",
    ("zh", "kind"): "一个红色的{}在草地上弹跳",
    ("zh", "motion"): "一个红色的球在草地上{}",
    ("zh", "time"): "{}，一个红色的球在草地上弹跳",
}


def test_the_table_has_300_words_of_both_languages():
    assert len(ROWS) >= 300
    assert sum(row[0].isascii() for row in ROWS) >= 150 and sum(not row[0].isascii() for row in ROWS) >= 150


def check_reading(prompt, text):
    """A prompt has a thing and words that the world knows alone; with `text`, these ones."""
    reading = synonyms.read(prompt, KNOWN)
    assert set(synonyms._PIECE.findall(reading.text)) <= KNOWN and reading.has_thing
    assert text is None or reading.text == text


@pytest.mark.parametrize("field", ["color", "size", "kind", "motion", "time", "ground"])
def test_everyday_words_are_read_as_the_worlds(field):
    wrong = []
    for word, stated, meaning, source in ROWS:
        if stated != field:
            continue
        language = "en" if word.isascii() else "zh"
        shown = synonyms._forms(word)[1] if (language, field) == ("en", "motion") else word
        reading = synonyms.read(SENTENCES[language, field].format(shown), KNOWN)
        try:
            read = caption.parse(reading.text)
        except ValueError as error:
            wrong.append((word, meaning, reading.text, str(error), source))
            continue
        got = getattr(read if field in ("time", "ground") else read.things[0], field)
        if got != meaning or len(read.things) != 1 or reading.unknown:
            wrong.append((word, meaning, got, reading.text, source))
    assert not wrong


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("two red balls bounce on the grass", "a red ball bounces and a red ball bounces on the grass"),
        ("two balls of snow", None),
        ("a pink pyramid tumbles at midnight", "a red cone falls at night"),
        ("a gray ball hovers", "a white ball stays still"),
        ("a red\u200b ball\u200d bounces", "a red ball bounces"),
        ("🎈 a red ball 🏀 bounces", "a red ball bounces"),
        ("两个红色的球在雪地上跳跃", "一个红色的球,一个红色的球在雪地上跳跃"),
    ],
)
def test_a_prompt_is_read_in_the_worlds_words(prompt, text):
    check_reading(prompt, text)


def test_the_worlds_own_captions_are_not_touched():
    from sorano.world.scene import draw_attributes

    for seed in range(300):
        for language in caption.LANGUAGES:
            text = caption.describe(draw_attributes("train", seed, "core"), seed, language)
            assert synonyms.read(text, KNOWN).text == text


@pytest.mark.parametrize("prompt", ["a cat", "一只猫", "a wizard casts a spell at night", "a redd balll"])
def test_an_unknown_subject_is_refused_with_what_can_be_made(prompt):
    from sorano.errors import RequestError

    with pytest.raises(RequestError) as caught:
        check_words(Request(prompt=prompt), WORLD)
    said = f"{caught.value.message} {caught.value.hint}"
    assert "ball" in said or "knows no word" in said
    if "night" in prompt:
        assert "--force" in said
        assert check_words(Request(prompt=prompt, force=True), WORLD)


def test_the_nearest_known_word_is_named():
    (note,) = check_words(Request(prompt="a red ball bounces on the gras"), WORLD)
    assert "gras: did you mean grass?" in note


def test_what_is_read_otherwise_is_said():
    notes = check_words(Request(prompt="a crimson pyramid spins"), WORLD)
    assert any("'crimson' as 'red'" in note and "'pyramid' as 'cone'" in note for note in notes)


def test_other_presets_read_the_prompt_as_it_is():
    other = Preset(name="other")
    assert replace_synonyms(other, "a cat\u200b") == "a cat\u200b" and check_words(Request(prompt="a cat"), other) == []


def test_a_vocabulary_of_another_world_is_not_asked_for_things(tmp_path):
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": {"sheep": 3, "a": 4}}}))
    preset = Preset(name="farm", folder=tmp_path, small_vocabulary=True)
    assert check_words(Request(prompt="a sheep"), preset) == []
    (note,) = check_words(Request(prompt="a sheep and a goat"), preset)
    assert "'goat'" in note


def test_every_colour_that_browsers_name_is_read():
    from PIL import ImageColor

    unread = []
    for name in set(ImageColor.colormap) - {"snow"}:  # which is what it bounces on
        reading = synonyms.read(f"a {name} ball bounces", KNOWN)
        color = caption.parse(reading.text).things[0].color
        if reading.unknown or color is None:
            unread.append((name, reading.text))
    assert not unread


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("a pale crimson ball", "a red ball"),
        ("a dark-blue ball", "a blue ball"),
        ("a very small ball", "a small ball"),
        ("a medium ball", "a medium sized ball"),
        ("a red ball flies up", "a red ball rises"),
        ("a red ball is motionless", "a red ball stays still"),
        ("a red ball moves from left to right", "a red ball rolls right"),
        ("a red ball bounces on a snowy field", "a red ball bounces on the snow"),
        ("a red ball bounces in tall grass after dark", None),
        ("a red ball under the stars", "a red ball at night"),
        ("a red ball, panning left", "a red ball, the camera pans left"),
        ("a red ball, camera dollies in", "a red ball, the camera zooms in"),
        ("一个棕色的球在雪地上旋转", "一个橙色的球在雪地上旋转"),
    ],
)
def test_shades_degrees_adjectives_and_camera_moves_are_read(prompt, text):
    check_reading(prompt, text)


@pytest.mark.parametrize(
    ("word", "near"),
    [
        ("crimzon", "crimson"),
        ("piramid", "pyramid"),
        ("gras", "grass"),
        ("shpere", "sphere"),
        ("turqoise", "turquoise"),
    ],
)
def test_a_slip_of_the_pen_names_the_word_that_was_meant(word, near):
    assert synonyms.read(f"a ball {word}", KNOWN).near == {word: near}


@pytest.mark.parametrize("word", ["moon", "hat", "lands on", "hill", "tall", "forest"])
def test_other_words_are_not_taken_for_slips(word):
    assert not synonyms.read(f"a ball {word}", KNOWN).near
