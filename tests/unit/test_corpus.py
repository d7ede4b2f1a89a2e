"""The corpus of clips and the honest copies that thresholds are fitted to and judged by."""

import av
import numpy as np
import pytest
from support import copies, corpus

SIZE, SECONDS = (90, 160), 0.5


@pytest.mark.parametrize("kind", corpus.KINDS)
def test_a_clip_is_a_pure_function_of_kind_seed_size_and_length(kind):
    clip = corpus.clip(kind, 2, SIZE, SECONDS)
    assert clip.shape == (12, *SIZE, 3) and clip.dtype == np.uint8
    assert np.array_equal(clip, corpus.clip(kind, 2, SIZE, SECONDS))
    assert not np.array_equal(clip, corpus.clip(kind, 3, SIZE, SECONDS))
    assert clip.std() > 2  # something is shown


def test_a_listing_is_balanced_and_held_out_clips_show_other_pictures():
    listed = corpus.listing(300)
    assert len(set(listed)) == 300 and len(corpus.KINDS) == 12
    assert {sum(kind == one for one, _ in listed) for kind in corpus.KINDS} == {25}
    for names in (corpus.PHOTOS, corpus.SURFACES, corpus.PORTRAITS, corpus.PAGES):
        calibration = {corpus._one_of(names, seed) for seed in range(0, 60, 2)}
        held = {corpus._one_of(names, seed) for seed in range(1, 60, 2)}
        assert calibration | held == set(names) and not calibration & held


@pytest.mark.parametrize("name", copies.COPIES)
def test_an_honest_copy_shows_the_same_picture(name, tmp_path):
    clip = corpus.clip("landscape", 1, SIZE, SECONDS)
    frames, fps = copies.COPIES[name](clip, 24.0)
    assert frames.dtype == np.uint8 and len(frames) == pytest.approx(
        len(clip) * fps / 24 * (0.8 if name == "1.25x" else 1), abs=2
    )
    if not copies.COPIES[name].moves:
        small = [
            picture[:: picture.shape[0] // 20, :: picture.shape[1] // 20][:19, :19] for picture in (clip[0], frames[0])
        ]
        alike = np.corrcoef(small[0].mean(-1).ravel(), small[1].mean(-1).ravel())[0, 1]
        assert alike > 0.7
    path = copies.COPIES[name].write(clip, 24.0, tmp_path / copies.COPIES[name].name_of("clip"))
    with av.open(str(path)) as opened:
        assert len(list(opened.decode(video=0))) == len(frames)


def test_re_muxing_keeps_every_pixel():
    data = copies.encoded(corpus.clip("dark", 0, SIZE, SECONDS), 24.0, copies.h264(30))
    assert np.array_equal(copies.decoded(data), copies.decoded(copies.remuxed(data)))
