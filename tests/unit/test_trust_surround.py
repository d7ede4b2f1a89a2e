"""A signed video within a larger picture: where it is, what is around it, and what may be said of the whole."""

import cv2
import numpy as np
import pytest
from attacks.stage import Stage
from attacks.tools import encode
from support import footage

from sorano.trust.copies import fingerprint, surround
from sorano.trust.watermark import detect, embed, payload, search

SIZE, BOX = (540, 480), (130, 0, 400, 480)
TALL = (854, 480)


@pytest.fixture(scope="module")
def clip():
    return footage.clip("speaker", 270, 480, 12, 1)


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    return Stage(tmp_path_factory.mktemp("stage"))


def within(frames, back, top, left):
    out = np.ascontiguousarray(back).copy()
    out[:, top : top + frames.shape[1], left : left + frames.shape[2]] = frames
    return out


def blurred(frames, height, width):
    """What players put behind a video of another shape: the video itself, large and out of focus."""
    scale = max(height / frames.shape[1], width / frames.shape[2])
    out = []
    for frame in frames:
        big = cv2.resize(frame, None, fx=scale, fy=scale)
        top, left = (big.shape[0] - height) // 2, (big.shape[1] - width) // 2
        out.append(cv2.GaussianBlur(big[top : top + height, left : left + width], (0, 0), height / 30) * 0.7)
    return np.stack(out).astype(np.uint8)


def kind_of(frames, box=BOX):
    ground = surround.Ground(frames.shape[1:3], box)
    for frame in frames:
        ground.add(frame)
    return ground.kind()


def test_plain_and_blurred_grounds_are_told_from_pictures(clip):
    plain = np.full((12, *SIZE, 3), (16, 30, 60), np.uint8)
    assert kind_of(within(clip, plain, 130, 0)) == "plain"
    assert kind_of(within(clip, blurred(clip, *SIZE), 130, 0)) == "blurred"
    other = footage.clip("street", *SIZE, 12, 3)
    assert kind_of(within(clip, other, 130, 0)) == "other"
    foreign = np.stack([cv2.GaussianBlur(frame, (0, 0), 18) for frame in other])
    assert kind_of(within(clip, foreign, 130, 0)) == "other"  # blurred, and another picture


def test_words_one_frame_and_a_change_of_colour_are_no_plain_ground(clip):
    plain = within(clip, np.zeros((12, *SIZE, 3), np.uint8), 130, 0)
    words = plain.copy()
    for frame in words:
        cv2.putText(frame, "ELECTION RIGGED", (20, 60), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (90, 90, 90), 1)
    assert kind_of(words) == "other"
    once = plain.copy()
    once[7, 420:, :100] = 200
    assert kind_of(once) == "other"
    fades = plain.copy()
    fades[6:, :120] += 40
    assert kind_of(fades) == "other"


@pytest.mark.parametrize("flipped", [False, True])
def test_the_place_is_found_by_the_marks_grid_to_a_pixel(clip, flipped):
    marked = embed.mark_frames(clip, payload.Payload(1, "made", 77), fps=24)
    shown = marked[:, :, ::-1] if flipped else marked
    kept = search.Kept()
    for frame in within(shown, np.zeros((12, 540, 960, 3), np.uint8), 118, 346):
        kept.add(frame)
    found = detect.read(kept, fps=24)
    box = surround.place_of(kept, found, fingerprint.take(marked, 24.0))
    assert np.abs(np.array(box) - (118, 346, 388, 826)).max() <= 1


def test_a_grid_that_is_too_large_is_put_right_by_the_pictures(clip):
    kept = search.Kept()
    for frame in within(clip, np.zeros((12, 540, 960, 3), np.uint8), 118, 346):
        kept.add(frame)
    found = surround._fitted(kept, (117, 346, 391, 828), False, fingerprint.take(clip, 24.0))
    assert np.abs(np.array(found) - (118, 346, 388, 826)).max() <= 1


def test_an_uncut_and_a_cropped_copy_have_no_place(clip):
    marked = embed.mark_frames(clip, payload.Payload(1, "made", 77), fps=24)
    signed = fingerprint.take(marked, 24.0)
    for frames in (marked, footage.cropped(marked, 0.8)):
        kept = search.Kept()
        for frame in frames:
            kept.add(frame)
        assert surround.place_of(kept, detect.read(kept, fps=24), signed) is None


def test_a_copy_between_plain_bars_is_matched_and_its_place_is_said(stage, tmp_path):
    frames = within(stage.shown, np.zeros((len(stage.shown), *TALL, 3), np.uint8), 292, 0)
    report = stage.ask(encode(tmp_path / "bars.mp4", frames, sound=stage.heard))
    assert report["verdict"] == "MATCHED", report
    assert "between plain bars (0%-100% across, 34%-66% down)" in report["summary"]
    assert np.allclose(report["box"], (0, 292 / 854, 1, 562 / 854), atol=0.005)


def test_a_copy_within_a_foreign_film_is_named_and_not_matched(stage, tmp_path):
    back = footage.clip("landscape", 540, 960, len(stage.shown), 9)
    report = stage.ask(encode(tmp_path / "within.mp4", within(stage.shown, back, 118, 346), sound=stage.heard))
    assert report["verdict"] == "UNVERIFIED" and report["signer"] is None, report
    assert "36%-86% across, 22%-72% down, it shows a copy of what Studio A signed; the picture" in report["summary"]
    assert np.allclose(report["box"], (346 / 960, 118 / 540, 826 / 960, 388 / 540), atol=0.005)


def test_what_was_put_over_a_copy_between_bars_is_found_where_it_is(stage, tmp_path):
    frames = stage.shown.copy()
    frames[12:60, 80:200, 200:300] = stage.foreign[12:60, 80:200, 200:300]
    frames = within(frames, np.zeros((len(frames), *TALL, 3), np.uint8), 292, 0)
    report = stage.ask(encode(tmp_path / "over.mp4", frames, sound=stage.heard))
    assert report["verdict"] == "TAMPERED", report
    left, top, right, bottom = report["regions"][0]["box"]
    assert left < 250 / 480 < right and top < (292 + 140) / 854 < bottom


def test_a_cut_off_file_between_bars_is_no_error_and_no_copy(stage, tmp_path):
    frames = within(stage.shown, np.zeros((len(stage.shown), *TALL, 3), np.uint8), 292, 0)
    path = encode(tmp_path / "bars.mkv", frames, sound=stage.heard)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    report = stage.ask(path)
    assert report["verdict"] == "UNVERIFIED", report
    assert report["box"] is not None and "not all of it could be looked at" in report["summary"]
