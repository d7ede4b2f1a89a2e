"""Lengths and sizes as people write them."""

import pytest

from sorano.cli.options import merge_saved
from sorano.errors import RequestError
from sorano.presets import PRESETS
from sorano.request import Request
from sorano.resolve import resolve
from sorano.units import parse_count

WORLD, WAN, TI2V = PRESETS["world"], PRESETS["wan2.1-t2v-14b"], PRESETS["wan2.2-ti2v-5b"]


@pytest.mark.parametrize(
    ("text", "seconds", "frames"),
    [
        ("2", 2.0, None), ("2s", 2.0, None), ("1.5 s", 1.5, None), ("1,5s", 1.5, None), ("2 seconds", 2.0, None),
        ("1 min", 60.0, None), ("3秒", 3.0, None), ("50 frames", None, 50), ("17 frames", None, 17), ("49帧", None, 49),
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
    assert 0.5 < job.shape.width * job.shape.height / 128**2 < 1.7
    assert any("16:9 is" in note for note in job.notes)


def test_two_lengths_are_refused_and_those_of_a_record_agree():
    with pytest.raises(RequestError, match="two lengths"):
        Request(prompt="a ball", seconds=2, num_frames=9)
    assert Request(prompt="a ball", seconds=17 / 12, num_frames=17, fps=12).num_frames == 17


def test_a_length_said_now_replaces_both_of_a_record():
    saved = {"prompt": "a ball", "seconds": 1.4167, "num_frames": 17, "fps": 12.0}
    fields = merge_saved(saved, {"prompt": ""}, {"seconds": "2s", "num_frames": None, "fps": None})
    assert "num_frames" not in fields and "seconds" not in fields
    fields = merge_saved(saved, {"prompt": ""}, {"seconds": None, "num_frames": "9", "fps": None})
    assert "num_frames" not in fields and "seconds" not in fields


@pytest.mark.parametrize(
    ("text", "seconds"), [("500ms", 0.5), ("1:30", 90), ("00:02", 2), ("0.5 min", 30), ("1h", 3600), ("2 分钟", 120)]
)
def test_other_ways_to_write_a_time_are_understood(text, seconds):
    assert Request(prompt="a ball", seconds=text).seconds == seconds


@pytest.mark.parametrize(("text", "shape"), [("square", 1), ("Portrait", 9 / 16), ("landscape", 16 / 9)])
def test_a_shape_by_its_name_is_understood(text, shape):
    job = resolve(Request(prompt="a ball", size=text), WAN, WAN.read_configs())
    assert job.output_size[0] / job.output_size[1] == pytest.approx(shape, rel=0.02)


def test_lines_without_their_p_are_hinted_at():
    with pytest.raises(RequestError) as caught:
        Request(prompt="a ball", size="720")
    assert "--size 720p" in caught.value.hint


def test_names_are_taken_as_others_write_them():
    request = Request(prompt="a ball", dtype="BF16", device="CPU", audience="CN", upscale="2x")
    assert (request.dtype, request.device, request.audience, request.upscale) == ("bfloat16", "cpu", "cn", 2)


@pytest.mark.parametrize(("text", "count"), [("30e9", 30e9), ("30B", 30e9), ("1.3 billion", 1.3e9), ("500M", 5e8)])
def test_a_number_of_parameters_is_understood(text, count):
    assert parse_count(text) == count
