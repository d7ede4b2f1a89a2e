"""The map of where a mark was covered."""

import cv2
import footage
import numpy as np
import pytest

from sorano.trust.tamper import tamper_map
from sorano.trust.watermark import Payload, detect, mark_frames

KINDS = ["landscape", "handheld"]
_made = {}


def clips(kind):
    """A clip, marked and not, made once."""
    if kind not in _made:
        original = footage.clip(kind, 540, 960, 48)
        _made[kind] = original, mark_frames(original, Payload(1, "captured", 99), fps=24)
    return _made[kind]


def area_under_curve(score, truth):
    order = np.argsort(score.ravel(), kind="stable")
    rank = np.empty(order.size)
    rank[order] = np.arange(1, order.size + 1)
    hits = truth.sum()
    return (rank[truth.ravel()].sum() - hits * (hits + 1) / 2) / (hits * (truth.size - hits))


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_put_over_a_video_is_found(kind):
    original, marked = clips(kind)
    forged, where = footage.covered(marked, original, np.random.default_rng(4), 0.12)
    chunks = [footage.coded(forged, 23)]
    result = tamper_map(chunks, detect(chunks, fps=24))
    seen = cv2.resize(result.map_THW[0], (960, 540))
    assert area_under_curve(seen[::4, ::4], where[24, ::4, ::4]) > 0.98
    assert len(result.regions) == 1
    region = result.regions[0]
    assert (region.start_s, region.end_s) == (0, 2) and region.score > 10
    rows, columns = np.nonzero(where[24])
    left, top, right, bottom = region.box
    assert left < columns.mean() / 960 < right and top < rows.mean() / 540 < bottom
    assert (right - left) * (bottom - top) < 0.4


@pytest.mark.parametrize(("kind", "crf"), [("landscape", 23), ("handheld", 33)])
def test_untouched_video_is_not_flagged(kind, crf):
    chunks = [footage.coded(clips(kind)[1], crf)]
    assert tamper_map(chunks, detect(chunks, fps=24)).regions == ()


def test_edges_that_drown_the_mark_are_no_holes():
    """The reader divides by the local deviation: beside a hard edge that moves little of the mark is left."""
    original = clips("handheld")[0].copy()
    for t, frame in enumerate(original):
        cv2.line(frame, (400 + t, 80), (430 - t, 460), (250, 250, 250), 5)
    chunks = [footage.coded(mark_frames(original, Payload(1, "captured", 99), fps=24), 26)]
    assert tamper_map(chunks, detect(chunks, fps=24)).regions == ()


def test_a_cropped_and_scaled_forgery_is_found_in_its_own_frame():
    original, marked = clips("handheld")
    forged, where = footage.covered(marked, original, np.random.default_rng(6), 0.12)
    smaller = footage.resized(
        footage.cropped(np.concatenate([forged, where[..., None] * np.uint8(255)], -1), 0.9), 0.75
    )
    chunks = [footage.coded(smaller[..., :3], 20)]
    result = tamper_map(chunks, detect(chunks, fps=24))
    truth = cv2.resize(smaller[24, ..., 3], result.map_THW.shape[:0:-1]) > 127
    assert area_under_curve(result.map_THW[0], truth) > 0.9


def test_chunks_do_not_matter_and_pictures_can_be_shown():
    original, marked = clips("handheld")
    forged, _ = footage.covered(marked, original, np.random.default_rng(4), 0.12)
    found = detect([forged], fps=24)
    whole = tamper_map([forged], found)
    parts = tamper_map([forged[:7], forged[7:30], forged[30:]], found)
    assert np.array_equal(whole.map_THW, parts.map_THW) and whole.regions == parts.regions
    shown = whole.overlay(forged[:3], fps=24)
    assert shown.shape == forged[:3].shape and (shown != forged[:3]).any()
    assert whole.strip(200, 20).shape == (20, 200, 3)


def test_frames_of_another_size_are_refused():
    _, marked = clips("handheld")
    found = detect([marked[:4]], fps=24)
    with pytest.raises(ValueError, match="frames of"):
        tamper_map([marked[:, ::2]], found)
    with pytest.raises(ValueError, match="no frames"):
        tamper_map([], found)
