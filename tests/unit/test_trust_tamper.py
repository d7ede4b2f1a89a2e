"""The map of where a mark was covered."""

import dataclasses

import cv2
import numpy as np
import pytest
from support import cases, copies, corpus, footage

from sorano.trust.watermark import tamper
from sorano.trust.watermark.detect import detect
from sorano.trust.watermark.embed import mark_frames
from sorano.trust.watermark.payload import Payload
from sorano.trust.watermark.tamper import Blocks, Calibration, tamper_map

KINDS = ["landscape", "handheld"]
_made = {}


def clips(kind):
    """A clip, marked and not, made once."""
    if kind not in _made:
        original = footage.clip(kind, 540, 960, 48)
        _made[kind] = original, mark_frames(original, Payload(1, "captured", 99), fps=24)
    return _made[kind]


def coded(frames, crf):
    """A clip as H.264 leaves it, in colour."""
    return copies.decoded(copies.encoded(frames, 24.0, copies.h264(crf)))


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
    chunks = [coded(forged, 23)]
    result = tamper_map(chunks, detect(chunks, fps=24))
    seen = cv2.resize(result.map_THW[0], (960, 540))
    assert area_under_curve(seen[::4, ::4], where[24, ::4, ::4]) > 0.96  # 0.98 with the mark in bursts, which was seen
    assert result.sure and len(result.regions) == 1
    region = result.regions[0]
    assert (region.start_s, region.end_s) == (0, 2) and region.score > 1
    rows, columns = np.nonzero(where[24])
    left, top, right, bottom = region.box
    assert left < columns.mean() / 960 < right and top < rows.mean() / 540 < bottom
    assert (right - left) * (bottom - top) < 0.4


@pytest.mark.parametrize(("kind", "crf"), [("landscape", 23), ("handheld", 33)])
def test_untouched_video_is_not_flagged(kind, crf):
    chunks = [coded(clips(kind)[1], crf)]
    assert tamper_map(chunks, detect(chunks, fps=24)).regions == ()


def test_edges_that_drown_the_mark_are_no_holes():
    """The reader divides by the local deviation: beside a hard edge that moves little of the mark is left."""
    original = clips("handheld")[0].copy()
    for t, frame in enumerate(original):
        cv2.line(frame, (400 + t, 80), (430 - t, 460), (250, 250, 250), 5)
    chunks = [coded(mark_frames(original, Payload(1, "captured", 99), fps=24), 26)]
    assert tamper_map(chunks, detect(chunks, fps=24)).regions == ()


def test_a_cropped_and_scaled_forgery_is_found_in_its_own_frame():
    original, marked = clips("handheld")
    forged, where = footage.covered(marked, original, np.random.default_rng(6), 0.12)
    smaller = footage.resized(
        footage.cropped(np.concatenate([forged, where[..., None] * np.uint8(255)], -1), 0.9), 0.75
    )
    chunks = [coded(smaller[..., :3], 20)]
    result = tamper_map(chunks, detect(chunks, fps=24))
    truth = cv2.resize(smaller[24, ..., 3], result.map_THW.shape[:0:-1]) > 127
    assert area_under_curve(result.map_THW[0], truth) > 0.9
    assert len(result.regions) == 1


def test_a_forgery_in_a_longer_video_is_found_with_its_time():
    original = np.tile(clips("landscape")[0], (2, 1, 1, 1))[:72]
    marked = mark_frames(original, Payload(1, "made", 99), fps=24)
    forged = marked.copy()
    forged[24:, 150:400, 200:500] = original[24:, 160:410, 209:509]
    chunks = [coded(forged, 23)]
    result = tamper_map(chunks, detect(chunks, fps=24))
    assert [(region.start_s, region.end_s) for region in result.regions] == [(1, 3)]
    assert result.starts_s == (0, 1, 2) and result.ends_s == (1, 2, 3)
    assert len(result.map_THW) == len(result.reaches) == 3


def test_chunks_do_not_matter():
    original, marked = clips("handheld")
    forged, _ = footage.covered(marked, original, np.random.default_rng(4), 0.12)
    found = detect([forged], fps=24)
    whole = tamper_map([forged], found)
    parts = tamper_map([forged[:7], forged[7:30], forged[30:]], found)
    assert np.array_equal(whole.map_THW, parts.map_THW) and whole.regions == parts.regions


def test_frames_of_another_size_are_refused():
    _, marked = clips("handheld")
    found = detect([marked[:4]], fps=24)
    with pytest.raises(ValueError, match="frames of"):
        tamper_map([marked[:, ::2]], found)
    with pytest.raises(ValueError, match="no frames"):
        tamper_map([], found)


# What is concluded of blocks, without pictures.


def blocks(share, rows=22, columns=40):
    """Blocks of features as in the middle of the calibration, which agree `share` times as much as expected."""
    calibration, size = Calibration.load(), (3, rows, columns)
    centres = [calibration.luma.centre_F, calibration.chroma.centre_F, calibration.chroma.centre_F]
    features = np.tile(np.stack(centres)[:, None, None], (1, rows, columns, 1))
    made = Blocks(np.zeros(size), np.ones(size), features, np.array([0.3, 0.3, 0.2]), (0.0, 0.0, 1.0, 1.0))
    noise = np.random.default_rng(0).normal(size=size)
    return dataclasses.replace(made, agreement_PHW=share * calibration.expected(made) + noise)


def concluded(made):
    return tamper.assembled([(0.0, 2.0, made)], Calibration.load())


def test_a_place_without_the_mark_is_a_region_and_the_rest_is_not():
    share = np.ones((22, 40))
    share[5:12, 10:20] = 0
    result = concluded(blocks(share))
    assert len(result.regions) == 1
    left, top, right, bottom = result.regions[0].box
    assert left == pytest.approx(10 / 40, abs=0.06) and right == pytest.approx(20 / 40, abs=0.06)
    assert top == pytest.approx(5 / 22, abs=0.1) and bottom == pytest.approx(12 / 22, abs=0.1)
    assert concluded(blocks(1.0)).regions == ()


def test_a_place_with_less_of_the_mark_is_no_region():
    """Coders lose the mark in patches: a third of it, clear of chance, is still the mark."""
    share = np.ones((22, 40))
    share[5:15, 10:25] = 0.35
    assert concluded(blocks(share)).regions == ()


def test_a_map_says_what_it_would_have_found_and_is_silent_where_it_cannot_say():
    clear = concluded(blocks(1.0))
    assert clear.sure and clear.reach < 0.15
    # A coding, or two seconds of another video, without anything of the mark: nothing stands out from the rest.
    chance = np.random.default_rng(0).normal(size=(3, 22, 40))
    silent = concluded(dataclasses.replace(blocks(1.0), means_P=np.full(3, 0.002), agreement_PHW=chance))
    assert not silent.sure and silent.reach is None and silent.reaches == (None,) and silent.regions == ()


def test_windows_overlap_by_a_second_and_the_last_one_holds_the_rest():
    original = corpus.clip("sky", 2, (96, 160), 3.4, 10)
    found = detect([mark_frames(original, Payload(1, "made", 7), fps=10)], fps=10)
    times = [(start, end) for start, end, _ in tamper.windows([original], found)]
    assert times == [(0, 2), (1, 3.4)]
    assert [times for *times, _ in tamper.windows([original[:7]], found)] == [[0, 0.7]]


def test_a_wrong_key_shows_chance_in_every_block():
    """The null of a missing mark: signs that have nothing to do with the picture add up to a normal deviate."""
    original, marked = clips("landscape")
    found = detect([marked[:16]], fps=24)
    ((*_, seen),) = tamper.windows([marked[:16]], found, b"a key that marked nothing here")
    deviates = seen.agreement_PHW / np.sqrt(np.maximum(seen.power_PHW, tamper.LEAST_POWER))
    assert (abs(deviates.mean((1, 2))) < 0.2).all() and (abs(deviates.std((1, 2)) - 1) < 0.2).all()
    ((*_, seen),) = tamper.windows([marked[:16]], found)
    marks = seen.agreement_PHW / np.sqrt(np.maximum(seen.power_PHW, tamper.LEAST_POWER))
    assert (marks.mean((1, 2)) > 1).all()


def test_blocks_of_luma_and_of_colour_lie_over_the_same_place():
    """Half of the frame is marked: every plane shows the mark in that half and chance in the other, cropped or not."""
    original, marked = clips("landscape")
    half = np.where(np.arange(960)[:, None] < 480, marked[:8], original[:8])
    for frames, edge in ((half, 0.5), (half[:, 31:, 77:], (480 - 77) / (960 - 77))):
        found = detect([frames], fps=24)
        ((*_, seen),) = tamper.windows([frames], found)
        left, _, right, _ = seen.bounds
        middles = left + (np.arange(seen.agreement_PHW.shape[2]) + 0.5) / seen.agreement_PHW.shape[2] * (right - left)
        inside, outside = middles < edge - 0.03, middles > edge + 0.03
        strong = seen.agreement_PHW[..., inside].mean((1, 2))
        assert (strong > 1).all() and (abs(seen.agreement_PHW[..., outside].mean((1, 2))) < 0.2 * strong).all()


# Honest copies.


def accused(count, first_seed, size=(270, 480), seconds=2.0):
    """Which of `count` honest copies of held-out clips have regions, and how many were judged: their mark is read."""
    judged, wrong = 0, []
    for kind, seed in corpus.listing(count, first_seed):
        seed = 2 * seed + 1
        clip = cases.Clip(kind, seed, size, seconds)
        for case in cases.of_clip(kind, seed, size, seconds, min(5, count), 0):
            frames, fps, _ = clip.of(case)
            found = detect([frames], fps=fps)
            if found is None:
                continue
            judged += 1
            if tamper_map([frames], found).regions:
                wrong.append(case.name)
            if judged == count:
                return wrong, judged
    return wrong, judged


@pytest.mark.parametrize(("kind", "copy"), [("cartoon", "CRF 28"), ("slides", "chat"), ("faces", "screen")])
def test_an_honest_copy_is_not_accused(kind, copy):
    clip = cases.Clip(kind, 1, (270, 480), 2.0)
    frames, fps, _ = clip.of(cases.Case(kind, 1, (270, 480), 2.0, copy=copy))
    found = detect([frames], fps=fps)
    assert found is not None and found.payload == clip.payload
    assert tamper_map([frames], found).regions == ()


@pytest.mark.full
def test_at_most_one_in_a_hundred_honest_copies_is_accused():
    wrong, judged = accused(1000, 20)
    assert judged == 1000
    assert len(wrong) <= 10, wrong


def test_every_forgery_lies_where_it_says():
    clip = corpus.clip("sky", 2, (96, 160), 0.25)
    for number, way in enumerate(("object", "face", "smoothed")):
        forged, where = cases.forgeries.put_over(clip, clip // 2, np.random.default_rng(number), 0.2, way)
        changed = np.abs(forged.astype(int) - clip).max(-1) > 8
        assert 0.12 < where.mean() < 0.28
        assert changed[where].mean() > 0.9 and changed[~where].mean() < 0.1


def test_the_copies_of_cases_are_all_ordinary_copies():
    named = {case.copy for seed in range(4) for case in cases.of_clip("sky", seed, (96, 160), 1.0, 5, 0)}
    assert len(named) >= 15 and named <= set(copies.COPIES)
