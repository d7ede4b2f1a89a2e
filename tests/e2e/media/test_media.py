"""Foreign media are read as players show them: every kind, the same frames, their times, their colours, their sound."""

from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from media_kinds import (
    COUNT,
    HEIGHT,
    MATRICES,
    PATCHES,
    PICTURES,
    WIDTH,
    add_sound,
    clicks,
    coloured,
    deep_grey,
    encode,
    float_grey,
    grey_levels,
    hlg,
    number_of,
    patches_of,
    picture,
    png16,
    pq,
    remux,
    saved,
    turned,
    video_kinds,
    wide,
)
from PIL import Image, ImageCms

from sorano.errors import RequestError, VideoError
from sorano.media import colour, pictures, read, timing
from sorano.sources import open_source
from sorano.trust import media
from sorano.video import read_image

KINDS = {kind.name: kind for kind in video_kinds()}


def all_shown(found, **options):
    """Frames, starts and ends of a whole file."""
    parts = list(read.shown(found, **options))
    frames = [frame for part in parts for frame in part.frames_THWC]
    return frames, *(np.concatenate([getattr(part, name) for part in parts]) for name in ("starts_T", "ends_T"))


def off(frame, within=PATCHES):
    """How far the colours of a frame are from those that were put in, at the worst."""
    return int(np.abs(patches_of(frame) - np.array(within)).max())


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_video_shows_its_frames_when_a_player_would(tmp_path, name):
    kind = KINDS[name]
    kind.make(tmp_path / name)
    found = media.probe(tmp_path / name)
    frames, starts, ends = all_shown(found)
    assert (found.width, found.height) == kind.size == frames[0].shape[1::-1]
    assert tuple(number_of(frame) for frame in frames) == kind.numbers
    np.testing.assert_allclose(starts, kind.times, atol=0.0015)
    np.testing.assert_array_equal(ends[:-1], starts[1:])
    assert abs(ends[-1] - starts[-1] - 1 / kind.fps) < 0.05 + (kind.starts is not None) / kind.fps
    assert max(off(frame) for frame in frames) <= kind.within
    assert {key: getattr(found, key) for key in kind.facts} == kind.facts
    if kind.starts is None:
        assert found.fps == pytest.approx(kind.fps, rel=0.02)


@pytest.mark.parametrize("name", ["bframes.avi", "raw.h264", "late.ts", "cut.mp4", "cover.mp4", "two.mp4", "wide.mp4"])
def test_a_given_video_is_the_same_film(tmp_path, name):
    kind = KINDS[name]
    kind.make(tmp_path / name)
    source = open_source(tmp_path / name)
    assert tuple(number_of(frame) for chunk in source.frames() for frame in chunk) == kind.numbers
    assert (source.width, source.height, source.num_frames) == (*kind.size, len(kind.numbers))


@pytest.mark.parametrize("name", MATRICES)
def test_display_matrices_turn_and_mirror(tmp_path, name):
    numbers, moved = MATRICES[name]
    encode(tmp_path / "a.mp4", numbers=range(2), display=turned(numbers))
    found = media.probe(tmp_path / "a.mp4")
    frame = all_shown(found)[0][1]
    assert frame.shape[:2] == (found.height, found.width)
    flat = moved(picture(1)).astype(int)
    assert np.abs(frame.astype(int) - flat).mean() < 4


def test_a_mirror_that_is_not_turned_back_would_be_seen():
    flat = picture(1).astype(int)
    for name, (_, moved) in MATRICES.items():
        if name != "upright" and moved(flat).shape == flat.shape:
            assert np.abs(moved(flat) - flat).mean() > 20, name


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rate=st.sampled_from([5, 12, Fraction(24000, 1001), 25, Fraction(30000, 1001), 50, 60, 120]),
    container=st.sampled_from(["mp4", "mkv", "avi", "ts", "mov"]),
    matrix=st.sampled_from(sorted(MATRICES)),
    aspect=st.sampled_from([None, Fraction(4, 3), Fraction(16, 15), Fraction(8, 9), Fraction(64, 45), Fraction(2)]),
    codes=st.sampled_from([(5, 6, False), (1, 1, False), (1, 1, True), (5, 5, True)]),
    count=st.integers(4, 20),  # FFmpeg does not know a transport stream of two small frames for one
)
def test_rates_turns_shapes_and_matrices_hold_together(tmp_path, rate, container, matrix, aspect, codes, count):
    """Duration within one frame, shape on screen within a pixel, colours within 4 levels."""
    path = tmp_path / f"a.{container}"
    has_matrix = container in ("mp4", "mov")
    numbers, moved = MATRICES[matrix] if has_matrix else MATRICES["upright"]
    coded, tag, full = codes
    encode(
        path, fps=rate, numbers=[n % 16 for n in range(count)], matrix=coded, full=full, tags=(1, 1, tag),
        aspect=aspect, display=turned(numbers) if has_matrix else None, options={"bf": "2"},
    )  # fmt: skip
    found = media.probe(path)
    frames, _, ends = all_shown(found)
    assert len(frames) == count
    assert abs(ends[-1] - count / rate) <= 1 / rate
    kept = aspect if container != "avi" else None  # AVI has no place for the shape; H.264 in it has
    shape = moved(np.empty((HEIGHT, WIDTH))).shape
    ratio = float((aspect or 1) if numbers[0] else 1 / (aspect or 1)) * shape[1] / shape[0]
    assert kept is None or abs(found.width - ratio * found.height) <= 1 + 0.01 * found.width
    back = {"quarter right": "quarter left", "quarter left": "quarter right"}.get(matrix, matrix)
    frame = MATRICES[back][1](frames[1]) if has_matrix else frames[1]
    assert number_of(frame) == 1 and off(frame) <= 4


def test_transparent_video_is_shown_over_white_and_over_black(tmp_path):
    def formed(number):
        alpha = np.full((HEIGHT, WIDTH), 255, np.uint8)
        alpha[:, WIDTH // 2 :] = 0
        rgba = np.dstack([picture(number), alpha])
        return av.VideoFrame.from_ndarray(rgba, format="rgba").reformat(format="yuva420p", dst_colorspace=1)

    encode(tmp_path / "a.webm", "libvpx-vp9", pix_fmt="yuva420p", formed=formed, options={"crf": "4", "b": "0"})
    found = media.probe(tmp_path / "a.webm")
    assert found.has_alpha
    white, black = (all_shown(found, over=over)[0][0] for over in ("white", "black"))
    assert white[:, -8:].min() > 240 and black[:, -8:].max() < 15
    assert np.abs(white[:, : WIDTH // 2 - 8].astype(int) - black[:, : WIDTH // 2 - 8]).max() < 4


def test_interlaced_fields_of_two_times_are_not_left_as_combs(tmp_path):
    def woven(number):
        frame = np.full((HEIGHT, WIDTH, 3), 40, np.uint8)
        for field in (0, 1):
            left = 8 + 20 * number + 10 * field
            frame[field::2, left : left + 24] = 220
        return coloured(frame, "yuv420p")

    options = {"flags": "+ilme+ildct", "x264-params": "tff=1"}
    encode(tmp_path / "a.mp4", numbers=range(3), formed=woven, options=options)
    with av.open(str(tmp_path / "a.mp4")) as given:
        combed = next(given.decode(video=0)).to_ndarray(format="gray")
    frames, starts, _ = all_shown(media.probe(tmp_path / "a.mp4"))
    combs = [np.abs(np.diff(f.astype(int), axis=0)[8:-8]).mean() for f in (combed, frames[0][..., 1])]
    assert combs[1] < combs[0] / 4 and len(starts) == 3


# Times.


def test_a_file_that_ends_early_says_so_after_what_came(tmp_path):
    encode(tmp_path / "a.mp4", numbers=[n % 16 for n in range(60)], container={"movflags": "+faststart"})
    data = (tmp_path / "a.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) * 6 // 10])
    found = media.probe(tmp_path / "cut.mp4")
    came = []
    with pytest.raises(VideoError, match="breaks off after"):
        for part in read.shown(found):
            came += list(part.frames_THWC)
    assert 5 < len(came) < 60
    with pytest.raises(RequestError, match="breaks off after"):
        open_source(tmp_path / "cut.mp4")


def test_frames_of_no_duration_are_not_shown(tmp_path):
    """Four frames within a millisecond: the first three are never seen."""
    encode(tmp_path / "a.mkv", stamps=(0, 0, 0, 0, 500, 600, 700, 800), options={"bf": "0"})
    frames, starts, ends = all_shown(media.probe(tmp_path / "a.mkv"))
    shown_for = {number_of(frame): end - start for frame, start, end in zip(frames, starts, ends, strict=True)}
    assert sum(shown_for.get(number, 0) for number in (0, 1, 2)) <= 0.004
    assert shown_for[3] == pytest.approx(0.5, abs=0.01)


def test_stamps_that_jump_are_counted_through():
    clock = timing.Clock(10, is_broadcast=True)
    times = [clock(stamp, 0.1) for stamp in (95_000.0, 95_000.1, 0.0, 0.1, None, 0.3, 3600.0, 3600.1)]
    np.testing.assert_allclose(times, np.arange(8) / 10, atol=1e-9)
    clock = timing.Clock(10, is_broadcast=False)
    assert [clock(stamp, 0.1) for stamp in (5.0, 5.1, 65.0)] == pytest.approx([0, 0.1, 60])  # a pause is a pause


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6, allow_nan=False)), min_size=1, max_size=40),
    st.lists(st.floats(0, 10), min_size=40, max_size=40),
    st.booleans(),
)
def test_times_never_fall(stamps, lengths, is_broadcast):
    clock = timing.Clock(25, is_broadcast)
    times = [clock(stamp, length) for stamp, length in zip(stamps, lengths, strict=False)]
    assert times[0] == 0 and all(b >= a - 1e-5 for a, b in zip(times, times[1:], strict=False))
    assert clock.seconds > 0


@pytest.mark.parametrize("rate", [1000, 90_000])
def test_a_time_base_is_no_frame_rate(tmp_path, rate):
    encode(tmp_path / "a.mkv", fps=rate, stamps=[40 * index for index in range(COUNT)], options={"bf": "0"})
    found = media.probe(tmp_path / "a.mkv")
    assert 0 < found.fps <= read.MOST_RATE
    source = open_source(tmp_path / "a.mkv")
    assert abs(source.seconds - 0.32) <= 0.08 and source.fps <= read.MOST_RATE


def test_a_recording_that_begins_between_key_frames_is_what_can_be_seen(tmp_path):
    encode(tmp_path / "a.ts", numbers=[n % 16 for n in range(48)], options={"g": "12", "bf": "2"})
    packets = (tmp_path / "a.ts").read_bytes()
    (tmp_path / "b.ts").write_bytes(packets[len(packets) // 188 // 3 * 188 :])
    frames, _, ends = all_shown(media.probe(tmp_path / "b.ts"))
    source = open_source(tmp_path / "b.ts")
    assert 12 <= len(frames) < 36 and source.num_frames == len(frames)
    assert ends[-1] == pytest.approx(len(frames) / 12, abs=0.01)
    assert number_of(frames[0]) == (48 - len(frames)) % 16


@pytest.mark.parametrize("name", ["a.mkv", "a.ts"])
def test_a_late_clock_is_no_length(tmp_path, name):
    encode(tmp_path / "whole.mp4")
    remux(tmp_path / "whole.mp4", tmp_path / name, shift=7200.0)
    assert media.probe(tmp_path / name).seconds == pytest.approx(COUNT / 12, abs=0.09)
    assert open_source(tmp_path / name).num_frames == COUNT


# Sound.


def heard(found):
    """When clicks are heard, and the length of the sound."""
    pieces = list(read.sound(found))
    if not pieces:
        return [], 0.0
    samples = np.concatenate(pieces)
    assert samples.dtype == np.float32
    loud = np.flatnonzero(np.abs(samples) > 0.2) / 16_000
    return [float(t) for t, before in zip(loud, [-1, *loud], strict=False) if t - before > 0.1], len(samples) / 16_000


def test_samples_are_the_same_in_fewer_pieces():
    samples = np.arange(100, dtype=np.float32)
    for ends in ([3, 4, 50, 51, 98], [], [40, 80], list(range(1, 100))):
        pieces = list(read.joined(iter(np.split(samples, ends)), 20))
        assert np.array_equal(np.concatenate(pieces), samples)
        assert all(len(piece) >= 20 for piece in pieces[:-1]) and len(pieces) <= 6
    assert list(read.joined(iter([]), 20)) == []


SOUNDS = {
    "aac.mp4": ("aac", clicks()),
    "opus.webm": ("libopus", clicks()),
    "mp3.avi": ("libmp3lame", clicks()),
    "pcm.mov": ("pcm_s16le", clicks(channels=1), "mono"),
    "wide.mov": ("pcm_s16le", clicks(channels=6), "5.1"),
    "aac51.mp4": ("aac", clicks(channels=6), "5.1"),
    "ac3.ts": ("ac3", clicks()),
    "mp2.mpg": ("mp2", clicks()),
    "flac.mkv": ("flac", clicks()),
    "slow.mov": ("pcm_mulaw", clicks(rate=8000, channels=1), "mono", 8000),
    "fine.mov": ("pcm_s16le", clicks(rate=96000), "stereo", 96000),
}
CODERS = {"webm": "libvpx-vp9", "avi": "mpeg4", "mpg": "mpeg2video"}


@pytest.mark.parametrize("name", SOUNDS)
def test_sound_is_heard_with_its_picture(tmp_path, name):
    form = name.rsplit(".", 1)[1]
    encode(tmp_path / name, CODERS.get(form, "libx264"), fps=25 if form == "mpg" else 12, sound=SOUNDS[name])
    times, length = heard(media.probe(tmp_path / name))
    slack = 0.03 if name == "mp3.avi" else 0.02  # AVI has no place for the silence that MP3 coders put before
    np.testing.assert_allclose(times, [0.25, 0.5], atol=slack)
    assert length == pytest.approx(1.0, abs=0.08)


def test_sound_is_placed_by_the_first_frame(tmp_path):
    KINDS["delayed.mp4"].make(tmp_path / "a.mp4")  # the picture begins 0.4 s after the sound
    times, _ = heard(media.probe(tmp_path / "a.mp4"))
    np.testing.assert_allclose(times, [0.25, 0.5], atol=0.02)
    encode(tmp_path / "b.mkv", sound=("pcm_s16le", clicks(), "stereo", 48000, 0.3))  # and here before it
    times, _ = heard(media.probe(tmp_path / "b.mkv"))
    np.testing.assert_allclose(times, [0.55, 0.8], atol=0.02)


def test_a_video_without_sound_has_none(tmp_path):
    encode(tmp_path / "a.mp4")
    found = media.probe(tmp_path / "a.mp4")
    assert (found.has_audio, found.num_audio_tracks, list(read.sound(found))) == (False, 0, [])


# Pictures.


@pytest.mark.parametrize("name", PICTURES)
def test_every_kind_of_picture_has_its_colours(tmp_path, name):
    PICTURES[name](tmp_path / name)
    frame = read_image(tmp_path / name)
    assert frame.shape == (HEIGHT, WIDTH, 3) and off(frame) <= (16 if name.startswith("palette") else 4)
    found = media.probe(tmp_path / name)
    assert found.is_image and (found.width, found.height) == (WIDTH, HEIGHT) and not found.has_alpha
    assert found.num_pictures == (3 if name.startswith("pages") else 1)
    frames, starts, ends = all_shown(found)
    assert len(frames) == 1 and starts[0] == 0 < ends[0]


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bits_of_grey_are_a_ramp(tmp_path, name):
    deep_grey(tmp_path / name)
    assert np.abs(read_image(tmp_path / name)[..., 1] - grey_levels()).max() <= 1


def test_floats_are_grey_levels_or_are_refused(tmp_path):
    float_grey(tmp_path / "a.tif")
    assert np.abs(read_image(tmp_path / "a.tif")[..., 1] - grey_levels()).max() <= 1
    Image.fromarray((grey_levels() * 40).astype(np.float32)).save(tmp_path / "b.tif")
    with pytest.raises(VideoError, match="which of them is white"):
        read_image(tmp_path / "b.tif")
    Image.fromarray((grey_levels() * 40).astype(np.float32)).save(tmp_path / "c.tif", tiffinfo={340: 0.0, 341: 10200.0})
    assert np.abs(read_image(tmp_path / "c.tif")[..., 1] - grey_levels()).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["jpg", "png", "webp"])
def test_pictures_are_turned_as_exif_asks(tmp_path, orientation, form):
    exif = Image.Exif()
    exif[0x112] = orientation
    Image.fromarray(picture()).save(tmp_path / f"a.{form}", exif=exif, quality=98)
    found = media.probe(tmp_path / f"a.{form}")
    frame = read_image(tmp_path / f"a.{form}")
    moves = ["upright", "mirrored", "half turn", "upside down", "transposed", "quarter right", "across", "quarter left"]
    moved = MATRICES[moves[orientation - 1]][1](picture())
    assert frame.shape == moved.shape == (found.height, found.width, 3)
    assert np.abs(frame.astype(int) - moved).mean() < 8


def test_a_colour_profile_is_obeyed(tmp_path):
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    plain = Image.fromarray(picture())
    plain.save(tmp_path / "same.png", icc_profile=lab.tobytes())
    assert off(read_image(tmp_path / "same.png")) <= 1
    xyz = swapped_profile(lab.tobytes())
    plain.save(tmp_path / "swapped.png", icc_profile=xyz)
    seen = read_image(tmp_path / "swapped.png")
    assert off(seen, [(g, r, b) for r, g, b in PATCHES]) <= 4
    plain.save(tmp_path / "broken.png", icc_profile=b"no profile" * 20)
    assert off(read_image(tmp_path / "broken.png")) <= 1


def swapped_profile(profile):
    """sRGB whose red is green and whose green is red."""
    return profile.replace(b"rXYZ", b"\0tmp").replace(b"gXYZ", b"rXYZ").replace(b"\0tmp", b"gXYZ")


def test_transparent_pictures_are_shown_over_white_and_black(tmp_path):
    pixels = np.dstack([picture(), np.full((HEIGHT, WIDTH), 255, np.uint8)])
    pixels[:, 48:, 3] = 0
    for name in ("a.png", "a.webp"):
        Image.fromarray(pixels).save(tmp_path / name, lossless=True)
        found = media.probe(tmp_path / name)
        assert found.has_alpha
        white, black = (all_shown(found, over=over)[0][0] for over in ("white", "black"))
        assert white[:, 48:].min() == 255 and black[:, 48:].max() == 0
        np.testing.assert_array_equal(white[:, :48], black[:, :48])
        colours, alpha = pictures.read_alpha(tmp_path / name)
        np.testing.assert_array_equal(alpha, pixels[..., 3])
        np.testing.assert_array_equal(colours[:, :48], pixels[:, :48, :3])
    grey = np.stack([np.full((8, 8), 40_000), np.full((8, 8), 32_768)], -1)
    (tmp_path / "la.png").write_bytes(png16(grey, 4))
    assert abs(int(read_image(tmp_path / "la.png")[0, 0, 0]) - round(0.5 * 40_000 / 257 + 127.5)) <= 2


def test_an_animation_whose_transparency_comes_later_has_it(tmp_path):
    opaque = Image.new("RGBA", (16, 16), (255, 0, 0, 255))
    clear = Image.new("RGBA", (16, 16), (0, 255, 0, 90))
    for name in ("a.png", "a.webp"):
        opaque.save(tmp_path / name, save_all=True, append_images=[clear], duration=[50, 150], lossless=True)
        found = media.probe(tmp_path / name)
        assert (found.num_pictures, found.has_alpha, found.is_animated) == (2, True, True)
        assert found.seconds == pytest.approx(0.2)
        _, starts, ends = all_shown(found)
        np.testing.assert_allclose([*starts, ends[-1]], [0, 0.05, 0.2], atol=1e-6)


# What is refused.


def test_what_is_no_video_is_refused_in_its_own_words(tmp_path):
    saved()(tmp_path / "a.jpg")
    with pytest.raises(RequestError, match="is a picture"):
        open_source(tmp_path / "a.jpg")
    cover = tmp_path / "cover.jpg"
    Image.new("RGB", (50, 50), "blue").save(cover)
    with av.open(str(cover)) as art, av.open(str(tmp_path / "song.m4a"), "w", format="mp4") as out:
        write = add_sound(out, "aac", clicks())
        stream = out.add_stream_from_template(art.streams.video[0])
        stream.disposition = av.stream.Disposition.attached_pic
        for packet in art.demux(video=0):
            if packet.size:
                packet.stream, packet.pts, packet.dts = stream, 0, 0
                out.mux(packet)
        write()
    with pytest.raises(VideoError, match="sound, but no video"):
        media.probe(tmp_path / "song.m4a")
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    with pytest.raises(VideoError, match="HEIC"):
        media.probe(tmp_path / "a.heic")


def test_playlists_and_scripts_are_not_followed(tmp_path):
    encode(tmp_path / "a.ts")
    (tmp_path / "list.m3u8").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\na.ts\n#EXT-X-ENDLIST\n")
    (tmp_path / "list.ffconcat").write_text("ffconcat version 1.0\nfile a.ts\n")
    for name in ("list.m3u8", "list.ffconcat"):
        with pytest.raises(VideoError, match="cannot be read"):
            media.probe(tmp_path / name)


def test_file_names_are_no_addresses(tmp_path):
    name = tmp_path / "10:30 100% done?.mp4"
    encode(tmp_path / "a.mp4")
    (tmp_path / "a.mp4").rename(name)
    assert len(all_shown(media.probe(name))[0]) == COUNT


def test_too_many_tracks_are_refused(tmp_path, monkeypatch):
    encode(tmp_path / "a.mkv", sound=("pcm_s16le", clicks()))
    monkeypatch.setattr(read, "MOST_TRACKS", 1)
    with pytest.raises(VideoError, match="2 tracks; at most 1"):
        media.probe(tmp_path / "a.mkv")


@pytest.mark.parametrize(("width", "height"), [(9000, 64), (8192, 8192), (0, 10)])
def test_frames_that_are_too_large_are_refused(tmp_path, width, height):
    with pytest.raises(VideoError):
        read.check_size(tmp_path, width, height)


# Colour.


@pytest.mark.parametrize("transfer", [colour.PQ, colour.HLG, 14])
def test_the_fast_way_to_the_screen_is_the_definition(transfer):
    given = colour.Colour(9, transfer, 9)
    signal = np.random.default_rng(0).integers(0, 1 << 16, (40, 60, 3), np.uint16)
    wanted = 255 * colour.to_display(signal / 65535, given)
    assert np.abs(colour.Converter(given)(signal) - wanted).max() < 2.5


def test_highlights_keep_their_order_and_white_stays_light():
    steps = np.repeat(np.linspace(0, 1, 200)[:, None], 3, 1)
    for transfer, curve in ((colour.PQ, pq), (colour.HLG, hlg)):
        shown = 255 * colour.to_display(steps, colour.Colour(9, transfer, 9))[:, 1]
        assert (np.diff(shown) >= -1e-6).all() and shown[0] < 1 and shown[-1] > 254
        white = 255 * colour.to_display(curve(np.ones((1, 3))), colour.Colour(9, transfer, 9))
        assert 215 <= white[0, 1] <= 240
        skin = np.array([[0.45, 0.27, 0.19]])  # linear BT.2020
        same = colour.to_display(curve(skin), colour.Colour(9, transfer, 9)) ** 2.2
        np.testing.assert_allclose(same, np.clip(skin @ colour.to_bt709(9).T, 0, 1), atol=0.03)


def test_what_is_changed_is_said(tmp_path):
    wide(tmp_path / "a.mov", (9, 18, 9), np.eye(3), lambda v: v)
    assert any("HDR (HLG)" in one for one in open_source(tmp_path / "a.mov").notes)
    encode(tmp_path / "b.mp4", aspect=Fraction(4, 3))
    assert any("not square" in one for one in open_source(tmp_path / "b.mp4").notes)
    encode(tmp_path / "c.mp4")
    assert open_source(tmp_path / "c.mp4").notes == ()
    remux(tmp_path / "c.mp4", tmp_path / "d.mkv")
    assert media.probe(tmp_path / "d.mkv").num_video_tracks == 1


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rate=st.sampled_from([12, Fraction(24000, 1001), 25, Fraction(30000, 1001), 60]),
    kind=st.sampled_from([("mp4", "aac"), ("mov", "pcm_s16le"), ("mkv", "flac"), ("mkv", "ac3"), ("ts", "ac3")]),
    channels=st.sampled_from([(1, "mono"), (2, "stereo"), (6, "5.1")]),
    places=st.tuples(st.floats(0.1, 0.4), st.floats(0.6, 0.8)),
    seconds=st.floats(0.9, 1.4),
)
def test_sound_stays_within_20_ms_of_the_picture(tmp_path, rate, kind, channels, places, seconds):
    """Whatever the container, the code, the layout, the rate of the picture and the length of the sound."""
    container, codec = kind
    path = tmp_path / f"a.{container}"
    count, layout = channels
    sound = (codec, clicks(seconds, places, channels=count), layout)
    numbers = [n % 16 for n in range(round(float(rate)))]
    encode(path, fps=rate, numbers=numbers, sound=sound, options={"bf": "2"})
    found = media.probe(path)
    times, length = heard(found)
    np.testing.assert_allclose(times, places, atol=0.02)
    _, starts, ends = all_shown(found)
    assert starts[0] == 0 and abs(ends[-1] - len(numbers) / rate) <= 1 / rate
    assert abs(length - seconds) < 0.08
