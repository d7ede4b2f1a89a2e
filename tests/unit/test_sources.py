"""Videos that are given: read as they are shown, refused before work where they cannot be."""

from fractions import Fraction

import av
import numpy as np
import pytest

from sorano import video
from sorano.errors import RequestError, VideoError
from sorano.sources import open_source


def frames(count=10, height=32, width=48):
    """Grey levels that tell the frames apart."""
    levels = np.linspace(20, 230, count).astype(np.uint8)
    return np.repeat(np.repeat(np.repeat(levels[:, None, None, None], height, 1), width, 2), 3, 3)


def noise(count):
    return np.random.default_rng(0).integers(0, 255, (count, 64, 64, 3), np.uint8)


def levels(source):
    return [round(float(frame.mean())) for chunk in source.frames() for frame in chunk]


def write(path, clip, stamps, fps=10, **options):
    """A file whose frames are shown at given times, in hundredths of a second."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = clip.shape[2], clip.shape[1], "yuv420p"
        stream.options = {"crf": "10", "bf": "0"}
        stream.codec_context.time_base = Fraction(1, 100)
        for frame_HWC, stamp in zip(clip, stamps, strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame_HWC), format="rgb24")
            frame.pts, frame.time_base = stamp, Fraction(1, 100)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def test_frames_come_in_order_and_all_of_them(tmp_path):
    clip = frames(37)
    source = open_source(video.write_video(tmp_path / "a.mp4", clip, 12))
    assert (source.width, source.height, source.fps, source.num_frames) == (48, 32, 12, 37)
    assert source.seconds == pytest.approx(37 / 12)
    read = np.concatenate(list(source.frames()))
    assert np.abs(read.astype(int) - video.read_video(tmp_path / "a.mp4").frames_THWC).max() == 0
    assert np.array_equal(np.concatenate(list(source.frames(start=20))), read[20:])


def test_frames_at_times_are_those_on_screen(tmp_path):
    source = open_source(video.write_video(tmp_path / "a.mp4", frames(20), 10))
    every = levels(source)
    picked = source.sampled([0, 0.05, 0.1, 0.55, 5])
    assert [round(float(frame.mean())) for frame in picked] == [every[i] for i in (0, 0, 1, 5, 19)]


def test_a_varying_rate_becomes_a_constant_one(tmp_path):
    clip = frames(5)
    source = open_source(write(tmp_path / "a.mkv", clip, [0, 10, 40, 50, 60]))
    assert source.num_frames == pytest.approx(7, abs=1)
    shown = levels(source)
    own = [round(float(frame.mean())) for frame in clip]
    wanted = [own[0], own[1], own[1], own[1], own[2], own[3], own[4]]
    assert len(shown) >= 6 and all(abs(a - b) <= 3 for a, b in zip(shown, wanted, strict=False))


def test_a_turned_recording_comes_upright(tmp_path):
    wide = frames(4)
    wide[:, :, :10] = 255
    path = video.write_video(tmp_path / "a.mp4", wide, 10)
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # the display matrix of version 0: a quarter turn
    turn = (0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000)
    data[at : at + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in turn)
    (tmp_path / "b.mp4").write_bytes(data)
    source = open_source(tmp_path / "b.mp4")
    assert (source.width, source.height) == (32, 48)
    first = next(source.frames())[0]
    assert first[:8].mean() > 200 > first[20:].mean() or first[-8:].mean() > 200 > first[:20].mean()


def test_a_video_in_memory_is_a_source(tmp_path):
    clip = video.Clip(frames(9), 8, "", "", {})
    source = open_source(clip)
    assert source.num_frames == 9 and levels(source) == [round(float(f.mean())) for f in clip.frames_THWC]


def test_wrong_files_are_refused_with_what_is_wrong(tmp_path):
    path = video.write_video(tmp_path / "a.mp4", noise(60), 10)
    (tmp_path / "cut.mp4").write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (tmp_path / "text.mp4").write_text("no video")
    with av.open(str(tmp_path / "sound.m4a"), "w", format="mp4") as out:
        stream = out.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        out.mux(stream.encode(frame))
        out.mux(stream.encode())
    for name, words in {
        "none.mp4": "no file",
        "cut.mp4": "breaks off after|cannot be read",
        "text.mp4": "cannot be read",
        "sound.m4a": "no video in it",
        ".": "folder",
    }.items():
        with pytest.raises(RequestError, match=words):
            open_source(tmp_path / name)


def test_ten_hours_are_refused_unread(tmp_path):
    path = write(tmp_path / "a.mkv", frames(3), [0, 10, 3_600_000])
    with pytest.raises(RequestError, match="10.0 hours long"):
        open_source(path)


def test_a_file_that_breaks_off_later_says_so(tmp_path):
    path = write(tmp_path / "a.mkv", noise(40), range(0, 400, 10))
    source = open_source(path)
    data = path.read_bytes()
    path.write_bytes(data[:200])
    with pytest.raises(VideoError):
        list(source.frames())
