"""Files: what is written is read back, all or nothing; broken input is refused with its name."""

import json
import os
import struct
import subprocess
import sys
import threading
import zlib

import av
import numpy as np
import pytest
from PIL import Image

from sorano import video
from sorano.errors import RequestError, VideoError


def moving_square(num_frames=9, height=64, width=64):
    """Smooth frames with a coloured square that moves, so that H.264 can keep them."""
    rows, columns = np.mgrid[0:height, 0:width]
    frames = np.zeros((num_frames, height, width, 3), np.uint8)
    for index in range(num_frames):
        frames[index] = np.stack([rows * 2 % 256, columns * 2 % 256, 0 * rows + 90], -1)
        frames[index, 8:24, 4 + 3 * index : 20 + 3 * index] = (200, 30, 40)
    return frames


def psnr(a, b):
    return 10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2))


def test_what_is_written_is_read_back(tmp_path):
    frames = moving_square()
    path = video.write_video(tmp_path / "a.mp4", frames, 12.0, metadata={"prompt": '红球 "é"'}, title="红球")
    clip = video.read_video(path)
    assert clip.frames_THWC.shape == frames.shape
    assert psnr(frames, clip.frames_THWC) > 30
    assert (clip.fps, clip.codec, clip.pixel_format) == (12.0, "h264", "yuv420p")
    assert clip.metadata == video.read_metadata(path) == {"prompt": '红球 "é"'}
    assert os.listdir(tmp_path) == ["a.mp4"]


def test_the_file_starts_fast_and_says_its_colours(tmp_path):
    path = video.write_video(tmp_path / "a.mp4", moving_square(), 23.976)
    data = path.read_bytes()
    assert data.find(b"moov") < data.find(b"mdat")
    with av.open(str(path)) as container:
        codec = container.streams.video[0].codec_context
        assert (codec.color_primaries, codec.color_trc, codec.colorspace, codec.color_range) == (1, 1, 1, 1)
        assert float(container.streams.video[0].average_rate) == pytest.approx(23.976, abs=1e-3)


def test_pure_colours_come_back_as_they_were(tmp_path):
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [0, 0, 0], [200, 30, 60]], np.uint8)
    frames = np.broadcast_to(colours[:, None, None], (6, 64, 64, 3))
    clip = video.read_video(video.write_video(tmp_path / "a.mp4", frames, 1))
    np.testing.assert_allclose(clip.frames_THWC[:, 32, 32].astype(int), colours.astype(int), atol=6)


@pytest.mark.parametrize(("height", "width"), [(63, 64), (64, 33), (17, 31)])
def test_odd_sizes_are_written_with_the_last_line_twice(tmp_path, height, width):
    frames = moving_square(5, height, width)
    clip = video.read_video(video.write_video(tmp_path / "a.mp4", frames, 8))
    assert clip.frames_THWC.shape == (5, height + height % 2, width + width % 2, 3)
    assert psnr(frames, clip.frames_THWC[:, :height, :width]) > 25


def test_an_existing_file_is_kept_unless_overwritten(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_text("precious")
    with pytest.raises(RequestError, match="exists and is kept.*\n.*--overwrite"):
        video.write_video(path, moving_square(), 8)
    assert path.read_text() == "precious"
    video.write_video(path, moving_square(), 8, overwrite=True)
    assert video.read_video(path).codec == "h264"


def test_a_file_that_appears_while_writing_is_kept(tmp_path, monkeypatch):
    path = tmp_path / "a.mp4"
    encode = video.Writer._encode

    def encode_while_another_finishes(*args):
        encode(*args)
        path.write_text("theirs")

    monkeypatch.setattr(video.Writer, "_encode", encode_while_another_finishes)
    with pytest.raises(RequestError, match="exists and is kept"):
        video.write_video(path, moving_square(), 8)
    assert path.read_text() == "theirs" and os.listdir(tmp_path) == ["a.mp4"]


def test_frames_encoded_while_later_ones_are_made_give_the_same_file(tmp_path, steady_coder):
    frames = moving_square(num_frames=25, height=63, width=65)
    whole = video.write_video(tmp_path / "whole.mp4", frames, 12, metadata={"seed": 1}, title="a square")
    with video.writing(tmp_path / "parts.mp4", 12) as writer:
        for part in np.split(frames, [1, 5, 6, 17]):
            writer.put(part)
            assert len(writer.waiting) <= video.MOST_WAITING
        writer.label({"seed": 1}, "a square")
    assert whole.read_bytes() == (tmp_path / "parts.mp4").read_bytes()


def test_frames_are_encoded_beside_the_caller(tmp_path, monkeypatch):
    encode, begun, go_on = video.Writer._encode, threading.Event(), threading.Event()

    def slowly(*args):
        begun.set()
        assert go_on.wait(60)
        encode(*args)

    monkeypatch.setattr(video.Writer, "_encode", slowly)
    with video.writing(tmp_path / "a.mp4", 12) as writer:
        writer.put(moving_square())
        assert begun.wait(60)  # and the caller is here
        go_on.set()
    assert len(video.read_video(tmp_path / "a.mp4").frames_THWC) == 9


def test_what_fails_in_the_encoder_surfaces_and_leaves_nothing(tmp_path, monkeypatch):
    def full(writer, frames_THWC):
        writer.temporary.write_bytes(b"half a video")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(video.Writer, "_encode", full)
    taken = []
    with pytest.raises(VideoError, match="No space left"), video.writing(tmp_path / "a.mp4", 12) as writer:
        for index in range(100):
            writer.put(moving_square())
            taken.append(index)
    assert len(taken) <= video.MOST_WAITING  # soon, not at the end
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError("the caller's own")])
def test_what_fails_in_the_caller_stays_what_it_is_and_leaves_nothing(tmp_path, error):
    with pytest.raises(error if isinstance(error, type) else OSError) as caught:
        with video.writing(tmp_path / "a.mp4", 12) as writer:
            writer.put(moving_square())
            raise error
    assert not isinstance(caught.value, VideoError)
    assert os.listdir(tmp_path) == []


def test_a_video_without_frames_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no frames"), video.writing(tmp_path / "a.mp4", 12):
        pass
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["a.avi", "a", "missing/a.mp4", "."])
def test_a_target_that_cannot_be_is_refused_before_work(tmp_path, name):
    with pytest.raises(RequestError):
        video.check_target(tmp_path / name, overwrite=True)


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a folder in which nothing can be created")
def test_a_folder_that_cannot_be_written_to_is_refused_before_work():
    with pytest.raises(RequestError, match="cannot be written to"):
        video.check_target(video.Path("/proc/self/a.mp4"), overwrite=False)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_end_in_mid_write_leaves_no_file(tmp_path, monkeypatch, stop):
    pad = np.pad

    def stop_after_a_frame(array, *args, **kwargs):
        class Frames(list):
            def __iter__(self):
                yield pad(array, *args, **kwargs)[0]
                raise stop

        return Frames()

    monkeypatch.setattr(np, "pad", stop_after_a_frame)
    expected = VideoError if isinstance(stop, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        video.write_video(tmp_path / "a.mp4", moving_square(), 8)
    assert os.listdir(tmp_path) == []


@pytest.mark.posix
def test_a_full_disk_is_an_error_and_leaves_no_file(tmp_path):
    """A limit on the size of files stands for the disk: writing fails in the same place."""
    code = (
        "import resource, signal, sys, numpy as np\n"
        "from sorano import video, errors\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n"
        "frames = np.random.default_rng(0).integers(0, 255, (9, 64, 64, 3), np.uint8)\n"
        "try:\n    video.write_video(sys.argv[1], frames, 8)\n"
        "except errors.VideoError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.mp4")], capture_output=True, text=True, check=False
    )
    assert "cannot be written" in done.stdout and "free some space" in done.stdout, done
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("content", [b"", b"not a video", b"\x00\x00\x00\x20ftypisom" + bytes(64)])
def test_a_broken_video_is_refused_by_name(tmp_path, content):
    path = tmp_path / "broken.mp4"
    path.write_bytes(content)
    for read in (video.read_video, video.read_metadata):
        with pytest.raises(VideoError, match=r"broken\.mp4"):
            read(path)
        with pytest.raises(VideoError, match=r"missing\.mp4"):
            read(tmp_path / "missing.mp4")


def test_a_video_of_others_has_no_record(tmp_path):
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        container.metadata["comment"] = "made by somebody"
        stream = container.add_stream("libx264", rate=8)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(moving_square(1, 32, 32)[0], format="rgb24")))
        container.mux(stream.encode())
    assert video.read_metadata(path) == {}


def test_a_video_beyond_the_limit_is_refused(tmp_path, monkeypatch):
    path = video.write_video(tmp_path / "a.mp4", moving_square(9), 8)
    monkeypatch.setattr(video, "MAX_VIDEO_PIXELS", 8 * 64 * 64)
    with pytest.raises(VideoError, match="more than 8 frames"):
        video.read_video(path)


def test_a_picture_is_read_upright_and_over_white(tmp_path):
    pixels = np.zeros((10, 20, 4), np.uint8)
    pixels[:, :10] = (255, 0, 0, 255)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    read = video.read_image(tmp_path / "a.png")
    assert read.shape == (10, 20, 3)
    assert tuple(read[5, 2]) == (255, 0, 0) and tuple(read[5, 15]) == (255, 255, 255)
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate a quarter
    Image.fromarray(pixels[..., :3]).save(tmp_path / "b.jpg", exif=exif)
    assert video.read_image(tmp_path / "b.jpg").shape == (20, 10, 3)


def huge_png(path, side):
    """A valid header that promises side x side pixels in a few hundred bytes."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(1000))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b""))


@pytest.mark.parametrize("side", [8_000, 12_000, 60_000])
def test_a_huge_picture_is_refused_unread(tmp_path, side):
    huge_png(tmp_path / "huge.png", side)
    with pytest.raises(VideoError, match=r"huge\.png"):
        video.read_image(tmp_path / "huge.png")


@pytest.mark.parametrize("kind", ["empty", "text", "truncated", "missing", "folder", "svg"])
def test_a_broken_picture_is_refused_by_name(tmp_path, kind):
    path = tmp_path / "broken.png"
    if kind == "folder":
        path.mkdir()
    elif kind == "truncated":
        Image.fromarray(moving_square(1)[0]).save(path)
        path.write_bytes(path.read_bytes()[:120])
    elif kind != "missing":
        path.write_text({"empty": "", "text": "hello", "svg": "<svg/>"}[kind])
    with pytest.raises(VideoError, match=r"broken\.png"):
        video.read_image(path)


def test_a_picture_of_another_aspect_fills_and_says_what_is_lost():
    wide = np.zeros((100, 200, 3), np.uint8)
    wide[:, 50:150] = 255
    filled, said = video.fill(wide, 64, 64)
    assert filled.shape == (64, 64, 3) and filled.min() == 255
    assert "50%" in said and "sides" in said and "200x100" in said
    _, said = video.fill(np.zeros((300, 100, 3), np.uint8), 64, 64)
    assert "67%" in said and "top and bottom" in said
    same, said = video.fill(moving_square(1)[0], 64, 64)
    assert "cropped" not in said
    np.testing.assert_array_equal(same, moving_square(1)[0])
    assert video.fill(np.zeros((1, 5000, 3), np.uint8), 64, 48)[0].shape == (48, 64, 3)


def test_resizing_keeps_flat_colour_and_the_number_of_frames():
    frames = np.full((3, 16, 16, 3), (10, 120, 240), np.uint8)
    larger = video.resize(frames, 48, 32)
    assert larger.shape == (3, 32, 48, 3)
    assert (larger == (10, 120, 240)).all()
    assert video.resize(frames, 16, 16) is frames


def test_a_contact_sheet_shows_the_first_and_the_last_frame(tmp_path):
    frames = moving_square(17, 32, 48)
    sheet = video.contact_sheet(frames, num_frames=6, columns=3, gap=4)
    assert sheet.shape == (2 * 36 + 4, 3 * 52 + 4, 3)
    np.testing.assert_array_equal(sheet[4:36, 4:52], frames[0])
    np.testing.assert_array_equal(sheet[40:72, 108:156], frames[-1])
    assert video.contact_sheet(frames[:1]).shape == (40, 56, 3)
    path = video.write_image(tmp_path / "sheet.png", sheet)
    np.testing.assert_array_equal(video.read_image(path), sheet)
    with pytest.raises(RequestError, match="exists"):
        video.write_image(path, sheet)


def test_frames_of_the_wrong_kind_are_a_programming_error(tmp_path):
    with pytest.raises(ValueError, match=r"\[T, H, W, 3\]"):
        video.write_video(tmp_path / "a.mp4", np.zeros((3, 8, 8), np.uint8), 8)
    with pytest.raises(ValueError, match="uint8"):
        video.write_video(tmp_path / "a.mp4", np.zeros((3, 8, 8, 3), np.float32), 8)


def test_the_record_survives_as_json(tmp_path):
    record = {"request": {"prompt": "x" * 3000, "seed": 2**63 - 1}, "measured": {"seconds": 1.25}}
    path = video.write_video(tmp_path / "a.mp4", moving_square(), 8, metadata=record)
    assert json.dumps(video.read_metadata(path), sort_keys=True) == json.dumps(record, sort_keys=True)
