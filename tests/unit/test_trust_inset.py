"""A video within a video: where it is, and that its mark is read there."""

import cv2
import numpy as np
import pytest
from support import footage

from sorano.trust.verify import Verdict, verify
from sorano.trust.watermark import inset
from sorano.trust.watermark.detect import detect, read
from sorano.trust.watermark.embed import mark_frames
from sorano.trust.watermark.inset import rectangles
from sorano.trust.watermark.payload import Payload
from sorano.trust.watermark.search import Kept
from sorano.trust.watermark.tamper import tamper_map
from sorano.video import write_video

PAYLOAD = Payload(1, "made", 0x0BADC0FFEE)
FRAMES = 12


@pytest.fixture(scope="module")
def marked():
    return mark_frames(footage.clip("landscape", 360, 640, FRAMES), PAYLOAD, fps=24)


def grey(frames):
    return [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]


def put_into(back, frames, top, left):
    out = back.copy()
    out[:, top : top + frames.shape[1], left : left + frames.shape[2]] = frames
    return out


@pytest.mark.parametrize("kind", footage.KINDS)
def test_ordinary_footage_has_no_video_in_it(kind):
    assert rectangles(grey(footage.clip(kind, 360, 640, FRAMES, seed=3))) == []


@pytest.mark.parametrize(("inner", "outer"), [("handheld", "street"), ("world", "landscape"), ("landscape", "leaves")])
def test_a_picture_in_a_picture_is_found(inner, outer):
    back = footage.clip(outer, 360, 640, FRAMES, seed=5)
    box = (40, 60, 184, 316)
    frames = put_into(back, footage.clip(inner, 144, 256, FRAMES), *box[:2])
    assert np.abs(np.array(rectangles(grey(frames))[0]) - box).max() <= 2


def test_small_and_empty_frames_have_none():
    assert rectangles([np.zeros((40, 200), np.uint8)]) == []
    assert rectangles([np.full((200, 200), 90, np.uint8)]) == []


def test_the_mark_is_read_in_a_picture_in_a_picture(marked):
    back = footage.clip("street", 540, 960, FRAMES, seed=5)
    frames = put_into(back, marked, 100, 300)
    found = detect([footage_coded(frames, 20)], fps=24)
    assert found is not None and found.payload == PAYLOAD
    assert found.size == (540, 960)
    assert np.abs(np.array(found.box) - (100, 300, 460, 940)).max() <= 4


def test_the_mark_is_read_between_bars_and_bars_are_no_holes(marked):
    frames = np.zeros((FRAMES, 1136, 640, 3), np.uint8)
    frames[:, 388:748] = marked
    frames[:, 760:872] = (240, 60, 40)
    found = detect([frames], fps=24)
    assert found is not None and found.payload == PAYLOAD and found.size == (1136, 640)
    shown = tamper_map([frames], found)
    assert shown.regions == ()


def test_rectangles_that_are_nearly_one_are_one():
    assert inset._same((62, 640, 300, 800), (52, 640, 300, 800))  # each costs seconds of search
    assert not inset._same((62, 640, 300, 800), (62, 640, 300, 1000))
    assert not inset._same((0, 0, 100, 100), (200, 200, 300, 300))


def test_a_search_without_time_ends_and_one_with_time_is_as_before(marked):
    kept = Kept()
    for frame in marked:
        kept.add(frame)
    assert read(kept, fps=24, has_time=lambda: False) is None
    assert read(kept, fps=24).payload == PAYLOAD


@pytest.mark.full
def test_a_portrait_copy_is_looked_at_within_the_limits_of_memory(tmp_path, marked):
    """All of a clip at twice its size would take more than a child has: such frames are made one at a time."""
    small = np.stack([cv2.resize(frame, (540, 304), interpolation=cv2.INTER_AREA) for frame in marked])
    portrait = np.zeros((48, 960, 540, 3), np.uint8)
    portrait[:, 328:632] = np.tile(small, (4, 1, 1, 1))
    write_video(tmp_path / "bars.mp4", portrait, 24.0)
    assert verify(tmp_path / "bars.mp4").verdict is Verdict.UNVERIFIED  # and no error


def footage_coded(frames, crf):
    """A clip after H.264, in colour."""
    import io

    import av

    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        stream.options = {"crf": str(crf), "preset": "medium"}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    file.seek(0)
    with av.open(file) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
