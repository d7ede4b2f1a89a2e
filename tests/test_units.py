"""Lengths and sizes as people write them."""

import pytest

from sorano import cli
from sorano.errors import RequestError
from sorano.presets import PRESETS
from sorano.request import Request
from sorano.resolve import resolve

WORLD, WAN, TI2V = PRESETS["world"], PRESETS["wan2.1-t2v-14b"], PRESETS["wan2.2-ti2v-5b"]


@pytest.mark.parametrize(
    ("text", "seconds", "frames"),
    [
        ("2", 2.0, None), ("2s", 2.0, None), ("1.5 s", 1.5, None), ("1,5s", 1.5, None), ("2 seconds", 2.0, None),
        ("1 min", 60.0, None), ("3秒", 3.0, None), ("50 frames", None, 49), ("17 frames", None, 17), ("49帧", None, 49),
    ],
)  # fmt: skip
def test_a_length_is_understood(text, seconds, frames):
    request = Request(prompt="a ball", seconds=text)
    assert (request.seconds, request.num_frames) == (seconds, frames)


@pytest.mark.parametrize("text", ["", "soon", "2 hours ago", "s", "-2s"])
def test_what_is_no_length_is_refused(text):
    with pytest.raises(RequestError):
        Request(prompt="a ball", seconds=text)


@pytest.mark.parametrize(
    ("preset", "size", "written"),
    [
        (WAN, "720p", (1280, 720)), (WAN, "480p", (832, 480)), (WAN, "16:9", (1280, 720)), (WAN, "9:16", (720, 1280)),
        (WAN, "1080p", (1920, 1080)), (TI2V, "720p", (1280, 720)), (WORLD, "720p", (1280, 720)),
        (WORLD, "1:1", (256, 256)), (WAN, "4K", (3840, 2160)),
    ],
)  # fmt: skip
def test_a_size_by_its_name_is_understood(preset, size, written):
    job = resolve(Request(prompt="a ball", size=size), preset, preset.read_configs())
    assert job.output_size == written


def test_an_aspect_is_of_the_area_that_the_preset_does_best():
    job = resolve(Request(prompt="a ball", size="16:9"), WORLD, WORLD.read_configs())
    assert 1.5 < job.shape.width / job.shape.height < 2.1
    assert 0.5 < job.shape.width * job.shape.height / 64**2 < 1.7
    assert any("16:9 is" in note for note in job.notes)


def test_two_lengths_are_refused_and_those_of_a_record_agree():
    with pytest.raises(RequestError, match="two lengths"):
        Request(prompt="a ball", seconds=2, num_frames=9)
    assert Request(prompt="a ball", seconds=17 / 12, num_frames=17, fps=12).num_frames == 17


def test_a_length_said_now_replaces_both_of_a_record():
    saved = {"prompt": "a ball", "seconds": 1.4167, "num_frames": 17, "fps": 12.0}
    fields = cli._saved_over(saved, {"prompt": ""}, {"seconds": "2s", "num_frames": None, "fps": None})
    assert "num_frames" not in fields and "seconds" not in fields
    fields = cli._saved_over(saved, {"prompt": ""}, {"seconds": None, "num_frames": "9", "fps": None})
    assert "num_frames" not in fields and "seconds" not in fields
