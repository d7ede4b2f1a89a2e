"""Every verb with the model that the package carries, through the public API: does it do what it says?

The table of docs/LOG.md has the full counts (benchmarks/verbs.py, scripts/check); here are few clips and wider bounds.
"""

import dataclasses
import json
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import sorano
from sorano import cli, errors, video
from sorano.conditions import CONDITIONS, Edit, FirstFrame, Keyframe, LastFrame, Region, as_condition
from sorano.request import Request, whole_path

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

PROMPT = "a red ball bounces on the grass at sunset"


@pytest.fixture(scope="session")
def ball(tmp_path_factory):
    """A video by the embedded model."""
    folder = tmp_path_factory.mktemp("ball")
    return sorano.generate(PROMPT, seed=5, output=folder / "ball.mp4")


@pytest.fixture
def make(tmp_path):
    return lambda prompt="", **options: sorano.generate(
        prompt, **{"output": tmp_path / "out.mp4", "seed": 1, **options}
    )


def mean_of(frames):
    return frames.astype(float).mean((0, 1, 2))


def test_a_first_frame_is_reproduced_as_well_as_the_autoencoder_can(tmp_path):
    import verbs

    from sorano.world import score

    class Few:
        count, captions = 3, [score.fullest_caption("heldout", number) for number in range(3)]

    row = verbs.frame(Few(), lambda text: None)
    assert row["first frame"] > row["autoencoder"] - 0.5
    assert row["keyframe at the end"] > 20


def test_an_edit_changes_what_it_says_and_keeps_the_rest(ball, make):
    made = make("it is night", conditions=[Edit(ball.path)])
    assert made.request.prompt.endswith("at night") and "grass" in made.request.prompt
    before, after = ball.frames_THWC, made.frames_THWC
    assert after.shape == before.shape and made.fps == ball.fps
    assert after[:, :80].mean() < 0.6 * before[:, :80].mean()  # the sky
    red = (before[..., 0] > 120) & (before[..., 1] < 60)  # the ball is where it was
    assert (after[red][:, 0].astype(float) - after[red][:, 1]).mean() > 40
    assert made.report.kind == "edited"


def test_outside_a_region_every_pixel_is_the_videos_own(ball, make):
    own = video.read_video(ball.path).frames_THWC
    made = make("make it blue", conditions=[Region(ball.path, box=(48, 32, 160, 160))])
    outside = np.ones(own.shape[1:3], bool)
    outside[32:192, 48:208] = False
    assert np.array_equal(made.frames_THWC[:, outside], own[:, outside])
    assert not np.array_equal(made.frames_THWC, own)
    ours, was = mean_of(made.frames_THWC[:, 60:160, 80:180]), mean_of(own[:, 60:160, 80:180])
    assert ours[2] > was[2] + 20 and ours[0] < was[0] - 20  # blue, not red


def test_a_mask_and_times_bound_a_region(ball, make, tmp_path):
    own = video.read_video(ball.path).frames_THWC
    mask = np.zeros((256, 256), np.uint8)
    mask[60:200, 100:200] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    made = make("make it blue", conditions=[Region(ball.path, mask=tmp_path / "mask.png", start=0.5, end=1.0)])
    frames = made.frames_THWC
    assert np.array_equal(frames[:6], own[:6]) and np.array_equal(frames[12:], own[12:])
    assert not np.array_equal(frames[6:12], own[6:12])
    assert np.array_equal(frames[:, mask == 0], own[:, mask == 0])
    Image.fromarray(mask[:100]).save(tmp_path / "small.png")
    with pytest.raises(errors.RequestError, match=r"the mask is 256x100, ball.mp4 is 256x256"):
        make("blue", conditions=[Region(ball.path, mask=tmp_path / "small.png")], overwrite=True)


def test_a_keyframe_is_led_to(ball, make):
    target = ball.frames_THWC[1]  # the ball is up
    led = make(PROMPT, seed=9, conditions=[LastFrame(target)]).frames_THWC
    assert np.array_equal(led[-1], target)
    steps = np.abs(np.diff(led.astype(float), axis=0)).mean((1, 2, 3))
    assert steps[-1] < 2.5 * np.median(steps)  # it does not jump there
    mid = make(PROMPT, seed=9, conditions=[Keyframe(0.7, target)], overwrite=True).frames_THWC
    assert np.array_equal(mid[8], target) and not np.array_equal(mid[9], target)


def test_variations_are_the_seeds_one_after_the_other(make, tmp_path):
    made = make(PROMPT, variations=2, num_steps=4, seed=3)
    assert [one.request.seed for one in made.variations] == [3, 4]
    assert [one.path.name for one in made.variations] == ["out-1.mp4", "out-2.mp4"]
    alone = sorano.generate(PROMPT, num_steps=4, seed=4)
    assert np.array_equal(made.variations[1].frames_THWC, alone.frames_THWC)


def test_a_draft_is_like_the_final(make):
    draft, final, other = (
        sorano.generate(PROMPT, **words).frames_THWC.astype(float)
        for words in ({"seed": 3, "draft": True}, {"seed": 3}, {"seed": 4})
    )
    assert np.abs(draft - final).mean() < 0.6 * np.abs(other - final).mean()


def test_a_picture_is_one_frame(tmp_path):
    made = sorano.generate("a blue cube on the snow at night", num_frames=1, seed=3, sheet=tmp_path / "a.png")
    assert made.frames_THWC.shape == (1, 256, 256, 3)
    assert video.read_image(tmp_path / "a.png").shape == (256, 256, 3)
    assert sorano.verify(tmp_path / "a.png").verdict is sorano.Verdict.VERIFIED


def test_every_line_of_the_document_runs(tmp_path, monkeypatch):
    """docs/verbs.md, in order; few steps."""
    sys.path.insert(0, str(Path(__file__).parents[2] / "docs"))
    import sheets

    monkeypatch.chdir(tmp_path)
    Path("board.toml").write_text(sheets.board(), encoding="utf-8")
    for line in sheets.lines():
        done = CliRunner().invoke(cli.app, [*shlex.split(line)[1:], "--num-steps", "3", "-q"])
        assert done.exit_code == 0, f"{line}: {done.output}"
        assert Path(done.stdout.split()[0]).is_file()


def test_a_video_is_made_again_from_what_it_carries(ball, make, tmp_path, monkeypatch):
    first = make("it is night", conditions=[Edit(ball.path)], num_steps=4)
    moved = tmp_path / "moved.mp4"
    first.path.rename(moved)  # the source is found in the library, wherever the video is
    done = CliRunner().invoke(cli.app, ["remix", str(moved), "-o", str(tmp_path / "again.mp4"), "-q"])
    assert done.exit_code == 0, done.output
    a, b = (video.read_video(tmp_path / name).frames_THWC for name in ("moved.mp4", "again.mp4"))
    assert np.array_equal(a, b)
    monkeypatch.setenv("SORANO_LIBRARY", str(tmp_path / "empty"))
    done = CliRunner().invoke(cli.app, ["remix", str(moved), "-o", str(tmp_path / "third.mp4"), "-q"])
    assert done.exit_code == 2 and "is not on this machine" in done.stderr
    shown = json.loads(CliRunner().invoke(cli.app, ["show", str(moved), "--json"]).stdout)
    (tmp_path / "r.json").write_text(json.dumps(shown))
    assert shown["request"]["conditions"][0]["kind"] == "edit" and "ball.mp4" in shown["files"]


def test_a_request_is_the_same_from_python_and_json(ball, tmp_path):
    request = Request(prompt="x", conditions=[Edit(ball.path, 0.5), Keyframe(1.0, "a.png")], seed=3, lora=())
    again = Request(**json.loads(json.dumps(request.to_json())))
    assert dataclasses.replace(again, conditions=()) == dataclasses.replace(request, conditions=())
    assert again.conditions[0] == Edit(str(ball.path), 0.5) and again.conditions[1].seconds == 1.0
    with pytest.raises(errors.RequestError, match="in memory"):
        Request(prompt="x", conditions=[FirstFrame(ball.frames_THWC[0])]).to_json()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"kind": "zoom"}, "unknown condition 'zoom'"),
        ({"kind": "edit"}, "needs more"),
        ({"kind": "edit", "video": "a.mp4", "power": 1}, "has no 'power'"),
        ({"kind": "edit", "video": "a.mp4", "strength": 2}, "strength"),
        ({"kind": "continue", "video": "a.mp4", "direction": "up"}, "forward or backward"),
        ({"kind": "region", "video": "a.mp4"}, "a box or a mask"),
        ({"kind": "region", "video": "a.mp4", "box": [0, 0, 0, 9]}, "x,y,width,height"),
        ({"kind": "keyframe", "image": "a.png", "seconds": -1}, "time of a keyframe"),
        ("edit", "an object"),
    ],
)
def test_wrong_conditions_are_refused_in_words(words, said):
    with pytest.raises(errors.RequestError, match=said):
        as_condition(words)


def test_each_kind_of_condition_survives_json():
    given = {"image": "a.png", "video": "a.mp4", "first": "a.mp4", "second": "b.mp4", "seconds": 1.0}
    for kind in CONDITIONS.values():
        names = {field.name for field in dataclasses.fields(kind)}
        words = {name: value for name, value in given.items() if name in names}
        one = kind(**words, **({"box": (0, 0, 9, 9)} if "box" in names else {}))
        assert as_condition(json.loads(json.dumps(one.to_dict(whole_path)))).to_dict() == one.to_dict()


def test_bad_input_is_said_before_any_work(ball, make, tmp_path, monkeypatch):
    path = sys.modules["sorano.engine"]
    monkeypatch.setattr(path.Engine, "load", lambda *_: pytest.fail("work began"))
    Image.MAX_IMAGE_PIXELS = None
    Image.new("1", (100_000, 600)).save(tmp_path / "wide.png")
    (tmp_path / "cut.mp4").write_bytes(ball.path.read_bytes()[:9000])
    image = tmp_path / "a.png"
    Image.new("RGB", (32, 32)).save(image)
    for conditions, said in (
        ([Keyframe(5.0, image)], "beyond the last frame"),
        ([Keyframe(0.5, image), Keyframe(0.5, image)], "two keyframes are at"),
        ([Edit(tmp_path / "cut.mp4")], "cannot be read|breaks off"),
        ([Edit(tmp_path / "none.mp4")], "no file"),
        ([Region(ball.path, box=(200, 0, 100, 100))], "beyond ball.mp4 of 256x256"),
        ([Edit(ball.path), Edit(ball.path)], "two things to do"),
    ):
        with pytest.raises(errors.RequestError, match=said):
            make(PROMPT, conditions=conditions)
    assert not (tmp_path / "out.mp4").exists()


def test_a_bomb_of_a_picture_is_refused(make, tmp_path):
    Image.MAX_IMAGE_PIXELS = None
    Image.new("1", (100_000, 600)).save(tmp_path / "wide.png")
    with pytest.raises(errors.RequestError, match="100000x600"):
        make(PROMPT, image=tmp_path / "wide.png")


def test_an_output_is_never_written_over_its_input(ball):
    for words in (["edit", str(ball.path), "night"], ["extend", str(ball.path)], ["loop", str(ball.path)]):
        done = CliRunner().invoke(cli.app, [*words, "-o", str(ball.path), "--overwrite", "-q"])
        assert done.exit_code == 2 and "over itself" in done.stderr
    with pytest.raises(errors.RequestError, match="over itself|would be written over"):
        sorano.generate("it is night", conditions=[Edit(ball.path)], output=ball.path, overwrite=True)
