"""What can be asked, what is refused before any work, and what a request becomes."""

import dataclasses
import json
from dataclasses import FrozenInstanceError, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sorano.errors import CheckpointError, RequestError
from sorano.presets import PRESETS, find_preset
from sorano.request import MAX_PROMPT_CHARACTERS, Request, slug
from sorano.resolve import resolve
from sorano.shapes import VideoShape

WORLD = replace(PRESETS["world"], size="64x64", num_frames=17, max_side=128)  # whatever weights the package carries
PROMPT = "a red ball bounces on the grass at sunset"


def test_a_plain_prompt_resolves_to_the_presets_native_clip():
    job = resolve(Request(prompt=PROMPT), WORLD)
    assert job.shape == VideoShape(17, 64, 64)
    assert job.fps == 12
    assert job.output_size == (256, 256)
    assert job.request.num_steps == WORLD.num_steps
    assert job.request.guidance == WORLD.guidance
    assert isinstance(job.request.seed, int)
    assert [note for note in job.notes if "Lanczos" in note] and len(job.notes) == 1


def test_a_seed_is_drawn_once_and_a_given_one_is_kept():
    drawn = {resolve(Request(prompt=PROMPT), WORLD).request.seed for _ in range(4)}
    assert len(drawn) == 4
    assert resolve(Request(prompt=PROMPT, seed=0), WORLD).request.seed == 0
    job = resolve(Request(prompt=PROMPT), WORLD)
    assert resolve(job.request, WORLD).request == job.request  # a recorded request gives itself again


def test_a_request_is_frozen():
    with pytest.raises(FrozenInstanceError):
        Request(prompt=PROMPT).prompt = "other"  # type: ignore[misc]


@pytest.mark.parametrize("prompt", ["", "   ", "\n\t"])
def test_an_empty_prompt_is_refused(prompt):
    with pytest.raises(RequestError, match="empty"):
        Request(prompt=prompt)


def test_an_over_long_prompt_is_refused_with_the_limit():
    Request(prompt="a" * MAX_PROMPT_CHARACTERS)
    with pytest.raises(RequestError, match=f"{MAX_PROMPT_CHARACTERS + 1} characters.*most is {MAX_PROMPT_CHARACTERS}"):
        Request(prompt="a" * (MAX_PROMPT_CHARACTERS + 1))
    with pytest.raises(RequestError, match="Unicode"):
        Request(prompt="\ud800")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("seconds", value) for value in (0, -1, float("nan"), float("inf"), 1e9, "soon", True)],
        *[("fps", value) for value in (0, -12, 1000, float("nan"))],
        *[("guidance", value) for value in (-1, float("nan"), 1e6)],
        *[("num_steps", value) for value in (0, -1, 2.5, 10**6)],
        *[("seed", value) for value in (-1, 2**64, 1.5)],
        *[("size", value) for value in ("", "0x0", "64", "64x-64")],
        *[("device", value) for value in ("gpu", "", "cuda:", "cpu:1; rm")],
        *[("upscale", value) for value in (0, -2, "big", 999, 1.5)],
    ],
)
def test_a_value_out_of_range_is_refused_by_name(field, value):
    with pytest.raises(RequestError) as caught:
        Request(prompt=PROMPT, **{field: value})
    assert field in str(caught.value) and repr(value).strip("'") in str(caught.value)


@pytest.mark.parametrize(
    ("size", "made"),
    [("65x64", "64x64"), ("1280x720", "80x48"), ("720x1280", "48x80"), ("200x50", "128x32"), ("333x333", "64x64")],
)
def test_any_size_is_written_and_made_in_its_aspect(size, made):
    job = resolve(Request(prompt=PROMPT, size=size), WORLD)
    assert job.shape.size == made
    assert job.output_size == tuple(int(side) for side in size.split("x")) and job.request.size == size
    assert any(f"scaled to {size}" in note for note in job.notes)
    assert resolve(job.request, WORLD).output_size == job.output_size


@pytest.mark.parametrize(
    ("size", "made"),
    [("128x128", "64x64"), ("96x64", "80x48"), ("32x32", "64x64"), ("1280x720", "80x48"), ("64x64", "64x64")],
)
def test_a_size_that_is_to_fit_is_made_as_the_model_was_trained(size, made):
    job = resolve(Request(prompt=PROMPT, size=size, upscale="fit"), WORLD)
    assert job.shape.size == made and job.output_size == tuple(int(side) for side in size.split("x"))
    again = resolve(job.request, WORLD)
    assert (again.shape, again.output_size, again.request) == (job.shape, job.output_size, job.request)


@pytest.mark.parametrize("size", [None, "16:9"])
def test_without_a_size_in_pixels_fit_is_auto(size):
    fit, auto = (resolve(Request(prompt=PROMPT, size=size, seed=1, upscale=one), WORLD) for one in ("fit", "auto"))
    assert (fit.shape, fit.output_size, fit.request) == (auto.shape, auto.output_size, auto.request)


@pytest.mark.parametrize("size", ["9999x64", "64x9999", "1x1", "8x64"])
def test_sizes_that_no_video_has_are_refused(size):
    with pytest.raises(RequestError, match="16 to 4096 pixels a side"):
        resolve(Request(prompt=PROMPT, size=size), WORLD)


def test_a_size_beside_the_native_one_is_made_with_a_note():
    job = resolve(Request(prompt=PROMPT, size="96x64"), WORLD)
    assert job.shape == VideoShape(17, 64, 96)
    assert any("trained at 64x64" in note for note in job.notes)


def test_a_length_between_two_is_rounded_and_said():
    job = resolve(Request(prompt=PROMPT, seconds=1.2), WORLD)
    assert job.shape.num_frames == 13
    assert job.request.seconds == pytest.approx(13 / 12, abs=1e-6)
    assert any("13 frames" in note for note in job.notes)
    assert len(resolve(Request(prompt=PROMPT, seconds=17 / 12), WORLD).notes) == 1


def test_a_length_beyond_a_preset_that_cannot_go_on_says_the_longest_and_the_longest_works():
    preset, configs = dataclasses.replace(WORLD, known=()), WORLD.read_configs()
    with pytest.raises(RequestError) as caught:
        resolve(Request(prompt=PROMPT, seconds=3), preset, configs)
    assert "25 frames" in caught.value.message
    assert "--seconds 2.08" in str(caught.value.hint)
    assert resolve(Request(prompt=PROMPT, seconds=2.08), preset, configs).shape.num_frames == 25
    with pytest.raises(RequestError, match="--seconds 1.04"):
        resolve(Request(prompt=PROMPT, seconds=2, fps=24), preset, configs)


def test_a_length_beyond_a_preset_that_goes_on_is_a_film():
    assert not resolve(Request(prompt=PROMPT, seconds=2), WORLD).is_film
    job = resolve(Request(prompt=PROMPT, seconds=60), WORLD)
    assert job.is_film and job.shape.num_frames == 721


def test_a_number_of_frames_is_a_length():
    assert resolve(Request(prompt=PROMPT, num_frames=1), WORLD).shape.num_frames == 1
    assert resolve(Request(prompt=PROMPT, num_frames=9), WORLD).request.num_frames == 9
    job = resolve(Request(prompt=PROMPT, num_frames=16), WORLD)
    assert job.shape.num_frames == 17 and any("becomes 17 frames (4k + 1)" in note for note in job.notes)


def test_a_draft_takes_fewer_steps_unless_they_are_said():
    assert resolve(Request(prompt=PROMPT, draft=True), WORLD).request.num_steps == 8
    assert resolve(Request(prompt=PROMPT, draft=True, num_steps=20), WORLD).request.num_steps == 20


def test_less_than_one_frame_is_refused():
    with pytest.raises(RequestError, match="less than one frame"):
        resolve(Request(prompt=PROMPT, seconds=0.01), WORLD)


def test_another_frame_rate_keeps_the_frames_and_says_so():
    job = resolve(Request(prompt=PROMPT, fps=24), WORLD)
    assert job.shape.num_frames == 17
    assert any("24 fps" in note for note in job.notes)


@given(st.floats(0.1, 10), st.floats(1, 60))
def test_every_length_that_resolves_is_on_the_grid_and_within_the_limit(seconds, fps):
    try:
        job = resolve(Request(prompt=PROMPT, seconds=seconds, fps=fps), WORLD)
    except RequestError:
        return
    job.geometry.latent_frames(job.shape.num_frames)
    assert job.shape.num_frames <= WORLD.max_num_frames or job.is_film


@pytest.mark.parametrize(
    ("upscale", "size", "output"),
    [
        ("auto", "64x64", (256, 256)),
        ("none", "64x64", (64, 64)),
        (1, "64x64", (64, 64)),
        ("3", "64x64", (192, 192)),
        ("auto", "128x96", (384, 288)),
        ("auto", "16x128", (32, 256)),
    ],
)
def test_upscale_auto_reaches_256_rows_and_a_number_is_obeyed(upscale, size, output):
    job = resolve(Request(prompt=PROMPT, upscale=upscale, size=size), WORLD)
    assert job.output_size == output
    assert any("upscaled" in note for note in job.notes) == (output != job.shape and job.upscale > 1)


def test_the_record_holds_the_words_unless_they_are_private():
    request = Request(prompt=PROMPT, negative_prompt="night", image="/home/somebody/cat.png", output="/tmp/x.mp4")
    record = json.loads(json.dumps(request.to_dict()))
    assert record["prompt"] == PROMPT and record["negative_prompt"] == "night"
    assert record["image"] == "cat.png" and "output" not in record
    hidden = json.dumps(replace(request, private=True).to_dict())
    assert "ball" not in hidden and "night" not in hidden and "cat" not in hidden
    assert json.loads(hidden)["preset"] == "world"


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("A red ball, bouncing!", "a-red-ball-bouncing"),
        ("../../etc/passwd", "etc-passwd"),
        ("一个红球", "一个红球"),
        ("!!!", "video"),
        ("w" * 300, "w" * 48),
        ("two words " * 30, "two-words-two-words-two-words-two-words-two"),
    ],
)
def test_a_prompt_becomes_a_file_name(prompt, name):
    assert slug(prompt) == name


@pytest.mark.parametrize("name", ["wrld", "World", "worlds"])
def test_an_unknown_preset_names_the_nearest(name):
    with pytest.raises(RequestError, match="--preset world"):
        find_preset(name)


def test_a_path_that_is_no_model_folder_is_a_checkpoint_error(tmp_path):
    with pytest.raises(CheckpointError, match="is not a folder"):
        find_preset(tmp_path / "nothing" / "here")
    with pytest.raises(CheckpointError, match=r"model_index\.json"):
        find_preset(tmp_path)


def test_a_folder_of_the_users_own_takes_its_card_or_wan_defaults(tmp_path):
    (tmp_path / "model_index.json").write_text("{}")
    assert find_preset(tmp_path).size == "832x480"
    (tmp_path / "sorano.json").write_text(json.dumps({"size": "32x32", "num_frames": 9, "fps": 8, "num_steps": 4}))
    preset = find_preset(str(tmp_path))
    assert (preset.size, preset.num_frames, preset.num_steps, preset.folder) == ("32x32", 9, 4, tmp_path)
    for broken in ("[]", "{", '{"folder": "/"}', '{"size": "big"}', '{"num_frames": "9"}'):
        (tmp_path / "sorano.json").write_text(broken)
        with pytest.raises(CheckpointError, match=r"sorano\.json"):
            find_preset(tmp_path)


def test_every_preset_in_the_table_resolves_to_its_own_defaults():
    for preset in PRESETS.values():
        job = resolve(Request(prompt=PROMPT, preset=preset.name), preset)
        assert (job.shape.size, job.shape.num_frames) == (preset.size, preset.num_frames)
