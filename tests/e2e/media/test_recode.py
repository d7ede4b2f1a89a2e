"""What is written anew keeps what there was (frames, times, colours, audio, subtitles, chapters), or says so first."""

from fractions import Fraction

import av
import numpy as np
import pytest
from media_kinds import COUNT, HEIGHT, PATCHES, WIDTH, clicks, encode, number_of, patches_of, picture, video_kinds
from PIL import Image

from sorano.errors import RequestError, VideoError
from sorano.media import read
from sorano.media.audio import AudioTrack
from sorano.media.recode import losses, recode
from sorano.trust import media
from sorano.trust.record import Marking, mark_file

KINDS = {kind.name: kind for kind in video_kinds()}
RECODED = (
    "plain.mp4", "bframes.avi", "mpeg4.avi", "raw.h264", "late.ts", "dvd.mpg", "fragments.mp4", "cut.mp4",
    "delayed.mp4",
    "cover.mp4", "two.mp4", "wide.mp4", "narrow.mkv", "interlaced.mp4", "hlg.mov", "untagged-hd.mp4", "film.mkv",
    "fast.mp4", "slow.mp4", "varying.mp4", "varying.mkv", "animated.gif", "animated.webp", "alpha.mov", "vp9.webm",
)  # fmt: skip


def same(frames_THWC, *_):
    return frames_THWC


def film(path):
    """Numbers, starts, the last end and the first frame of a file."""
    pictures = list(read.pictures_of(read.probe(path)))
    numbers = tuple(number_of(one.frame_HWC) for one in pictures)
    return numbers, np.array([one.start for one in pictures]), pictures[-1].end, pictures[0].frame_HWC


def clicks_of(path):
    """When clicks are heard after the first frame, and how long the sound is."""
    samples = np.concatenate(list(read.sound(read.probe(path))))
    loud = np.flatnonzero(np.abs(samples) > 0.2) / 16_000
    return [float(t) for t, before in zip(loud, [-1, *loud], strict=False) if t - before > 0.1], len(samples) / 16_000


@pytest.mark.parametrize("name", RECODED)
def test_the_same_film_comes_out(tmp_path, name):
    kind = KINDS[name]
    kind.make(tmp_path / name)
    given = read.probe(tmp_path / name)
    done = recode(given, tmp_path / "b.mp4", "mp4", same, {})
    numbers, starts, end, first = film(tmp_path / "b.mp4")
    assert numbers == kind.numbers and done.num_frames == len(numbers)
    np.testing.assert_allclose(starts, kind.times, atol=0.002)
    assert abs(end - film(tmp_path / name)[2]) <= 1 / given.fps + 0.002
    assert np.abs(patches_of(first) - np.array(PATCHES)).max() <= kind.within + 4
    with av.open(str(tmp_path / "b.mp4")) as made:
        video = made.streams.video[0]
        aspect = video.sample_aspect_ratio or Fraction(1)
        wide, high = kind.size
        with_source = Fraction(given.width, given.height) * given.aspect
        assert abs(Fraction(video.width, video.height) * aspect / with_source - 1) < Fraction(1, 10_000)
        assert (video.width, video.height) == (wide + wide % 2, high + high % 2)


@pytest.mark.parametrize(("kind", "suffix"), [("matroska", ".mkv"), ("webm", ".webm")])
def test_other_containers_hold_the_same_film(tmp_path, kind, suffix):
    encode(tmp_path / "a.mp4", sound=("aac", clicks()))
    done = recode(read.probe(tmp_path / "a.mp4"), tmp_path / f"b{suffix}", kind, same, {"TITLE": "a title"})
    assert film(tmp_path / f"b{suffix}")[0] == tuple(range(COUNT))
    np.testing.assert_allclose(clicks_of(tmp_path / f"b{suffix}")[0], [0.25, 0.5], atol=0.02)
    assert bool(done.notes) == (kind == "webm")


SOUNDS = {  # container, codec and layout of a source; the codec and channels of what comes out
    "aac": ("mp4", "aac", "stereo", 48_000, "aac", 2),
    "aac51": ("mp4", "aac", "5.1", 48_000, "aac", 6),
    "mp3": ("mkv", "libmp3lame", "stereo", 48_000, "mp3", 2),
    "mp3 in avi": ("avi", "libmp3lame", "stereo", 48_000, "mp3", 2),
    "ac3": ("ts", "ac3", "stereo", 48_000, "ac3", 2),
    "pcm": ("mov", "pcm_s16le", "mono", 44_100, "aac", 1),
    "pcm51": ("mov", "pcm_s16le", "5.1", 48_000, "aac", 6),
    "pcm71": ("mkv", "pcm_s16le", "7.1", 48_000, "aac", 8),
    "pcm in avi": ("avi", "pcm_s16le", "stereo", 48_000, "aac", 2),
    "mulaw": ("mov", "pcm_mulaw", "mono", 8_000, "aac", 1),
    "96k": ("mov", "pcm_s16le", "stereo", 96_000, "aac", 2),
    "192k": ("mkv", "pcm_s16le", "stereo", 192_000, "aac", 2),
    "mp2": ("mpg", "mp2", "stereo", 48_000, "aac", 2),
    "flac": ("mkv", "flac", "stereo", 48_000, "flac", 2),
}
CODERS = {"avi": "mpeg4", "mpg": "mpeg2video"}


@pytest.mark.parametrize("name", SOUNDS)
def test_sound_keeps_its_channels_its_rate_and_its_place(tmp_path, name):
    container, codec, layout, rate, becomes, channels = SOUNDS[name]
    path = tmp_path / f"a.{container}"
    samples = clicks(rate=rate, channels=channels)
    fps = 25 if container == "mpg" else 12
    encode(path, CODERS.get(container, "libx264"), fps=fps, sound=(codec, samples, layout, rate))
    recode(read.probe(path), tmp_path / "b.mp4", "mp4", same, {})
    with av.open(str(tmp_path / "b.mp4")) as made:
        heard = made.streams.audio[0].codec_context
        assert (heard.codec.canonical_name, len(heard.layout.channels)) == (becomes, channels)
        assert heard.sample_rate == min(rate, 96_000)
    times, length = clicks_of(tmp_path / "b.mp4")
    np.testing.assert_allclose(times, clicks_of(path)[0], atol=0.02)
    assert length >= 0.97


def with_everything(path):
    """Two audio tracks in two languages, subtitles, chapters."""
    encode(path.with_name("a.mp4"), sound=("aac", clicks()))
    with av.open(str(path.with_name("a.mp4"))) as given, av.open(str(path), "w") as out:
        pairs = {}
        video = out.add_stream_from_template(given.streams.video[0])
        pairs[given.streams.video[0].index] = [video]
        heard = [out.add_stream_from_template(given.streams.audio[0]) for _ in range(2)]
        for stream, language in zip(heard, ("eng", "deu"), strict=True):
            stream.metadata["language"] = language
        pairs[given.streams.audio[0].index] = heard
        out.set_chapters(
            [{"id": 1, "start": 0, "end": 400, "time_base": Fraction(1, 1000), "metadata": {"title": "one"}}]
        )
        for packet in given.demux():
            if packet.size:
                stamps = packet.pts, packet.dts, packet.time_base
                for stream in pairs[packet.stream.index]:
                    packet.pts, packet.dts, packet.time_base = stamps
                    packet.stream = stream
                    out.mux(packet)


def test_all_audio_tracks_and_chapters_come_along(tmp_path):
    with_everything(tmp_path / "all.mp4")
    given = read.probe(tmp_path / "all.mp4")
    assert (given.num_audio_tracks, given.num_chapters) == (2, 1) and losses(given, "mp4") == []
    recode(given, tmp_path / "b.mp4", "mp4", same, {})
    with av.open(str(tmp_path / "b.mp4")) as made:
        assert [stream.metadata.get("language") for stream in made.streams.audio] == ["eng", "deu"]
        assert [(one["start"] * one["time_base"], one["metadata"]["title"]) for one in made.chapters()] == [(0, "one")]


SRT = "1\n00:00:00,000 --> 00:00:00,300\nhello\n\n2\n00:00:00,350 --> 00:00:00,600\nworld\n"


def with_subtitles(path):
    """A film with SubRip subtitles."""
    path.with_suffix(".srt").write_text(SRT)
    encode(path.with_name("plain.mkv"))
    with (
        av.open(str(path.with_name("plain.mkv"))) as given,
        av.open(str(path.with_suffix(".srt"))) as text,
        av.open(str(path), "w") as out,
    ):
        streams = [out.add_stream_from_template(one.streams[0]) for one in (given, text)]
        for container, stream in zip((given, text), streams, strict=True):
            for packet in container.demux(container.streams[0]):
                if packet.size:
                    packet.stream = stream
                    out.mux(packet)


def test_subtitles_come_along_where_the_container_takes_them_and_else_it_is_said(tmp_path):
    with_subtitles(tmp_path / "a.mkv")
    given = read.probe(tmp_path / "a.mkv")
    assert given.num_text_tracks == 1 and losses(given, "matroska") == []
    recode(given, tmp_path / "b.mkv", "matroska", same, {})
    with av.open(str(tmp_path / "b.mkv")) as made:
        texts = [bytes(packet) for packet in made.demux(made.streams.subtitles[0]) if packet.size]
        assert texts == [b"hello", b"world"]
    assert losses(given, "mp4") == ["a subtitle track (subrip) is left out"]


def test_a_file_that_changes_its_size_is_refused(tmp_path):
    with open(tmp_path / "a.ts", "wb") as whole:
        for size in ((96, 64), (128, 64)):
            encode(tmp_path / "part.ts", size=size)
            whole.write((tmp_path / "part.ts").read_bytes())
    with pytest.raises(VideoError, match="changes its size"):
        recode(read.probe(tmp_path / "a.ts"), tmp_path / "b.mp4", "mp4", same, {})


def test_a_full_disk_is_the_systems_error(tmp_path, monkeypatch):
    encode(tmp_path / "a.mp4")

    def full(*_):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        recode(read.probe(tmp_path / "a.mp4"), tmp_path / "b.mp4", "mp4", full, {})


def test_sound_is_cut_to_its_window(tmp_path):
    """As in a film: the sound of a given video begins when its picture does, and ends with it."""
    for codec, container in (("aac", "mp4"), ("pcm_s16le", "mov")):
        path = tmp_path / f"{codec}.{container}"
        encode(path, sound=(codec, clicks(2.0, (0.25, 0.5, 1.5))))
        target = tmp_path / f"{codec}.out.mp4"
        with read.opened(path) as given, av.open(str(target), "w") as out:
            track = AudioTrack(given.streams.audio[0], out, "mp4", shift=1.0, start=1.0, most=1.0)
            for packet in given.demux(given.streams.audio[0]):
                track.pass_on(packet)
            track.close()
        with av.open(str(target)) as made:
            pieces = [(float(f.time), f.to_ndarray()) for f in made.decode(audio=0)]
        loud = [t + i / 48_000 for t, a in pieces for i in np.flatnonzero(np.abs(a[0]) > 0.2)]
        begins = [t for t, before in zip(loud, [-1, *loud], strict=False) if t - before > 0.1]
        np.testing.assert_allclose(begins, [1.25, 1.5], atol=0.02)
        assert pieces[-1][0] + pieces[-1][1].shape[1] / 48_000 == pytest.approx(2.0, abs=0.05)


# `sorano mark`, in place.


def test_in_place_never_replaces_a_file_by_less(tmp_path):
    KINDS["two.mp4"].make(tmp_path / "two.mp4")
    with_subtitles(tmp_path / "text.mkv")
    (tmp_path / "text.mkv").rename(tmp_path / "text.mp4")  # named otherwise than it is
    Image.fromarray(picture()).save(
        tmp_path / "pages.tif", save_all=True, append_images=[Image.new("RGB", (WIDTH, HEIGHT))]
    )
    (tmp_path / "pages.tif").rename(tmp_path / "pages.png")
    logo = np.dstack([picture(), np.full((HEIGHT, WIDTH), 90, np.uint8)])
    Image.fromarray(logo).save(tmp_path / "logo.png")
    (tmp_path / "logo.png").rename(tmp_path / "logo.jpg")
    lost = {"two.mp4": "video track", "text.mp4": "subtitle", "pages.png": "2 pictures", "logo.jpg": "transparency"}
    for name, words in lost.items():
        before = (tmp_path / name).read_bytes()
        with pytest.raises(RequestError, match=f"replaced by less.*{words}"):
            mark_file(tmp_path / name, tmp_path / name, overwrite=True)
        assert (tmp_path / name).read_bytes() == before


def test_a_copy_beside_it_says_what_it_lacks(tmp_path):
    KINDS["two.mp4"].make(tmp_path / "two.mp4")
    done = mark_file(tmp_path / "two.mp4", tmp_path / "b.mp4", Marking())
    assert any("further video track" in one for one in done.notes)
    assert film(tmp_path / "b.mp4")[0] == tuple(range(COUNT))


def test_transparency_and_animation_are_kept_by_marks(tmp_path):
    y, x = np.mgrid[0:256, 0:256]
    alpha = np.where((y - 128) ** 2 + (x - 128) ** 2 < 100**2, 255, 0).astype(np.uint8)
    noise = np.random.default_rng(0).integers(0, 255, (5, 256, 256, 3), np.uint8)
    for name in ("logo.png", "logo.webp"):
        Image.fromarray(np.dstack([noise[0], alpha])).save(tmp_path / name, lossless=True)
        done = mark_file(tmp_path / name, words=Marking())
        with Image.open(done.path) as made:
            np.testing.assert_array_equal(np.asarray(made.getchannel("A")), alpha)
        assert not any("transparen" in one for one in done.notes)
    frames = [Image.fromarray(frame) for frame in noise]
    for name in ("moving.png", "moving.webp"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], duration=[100, 50, 200, 100, 100])
        done = mark_file(tmp_path / name, words=Marking())
        found = media.probe(done.path)
        starts = [one.start for one in read.pictures_of(found)]
        np.testing.assert_allclose(starts, [0, 0.1, 0.15, 0.35, 0.45], atol=1e-6)


def joined(path):
    """Two broadcasts one after the other: all stamps begin anew."""
    encode(path.with_name("part.ts"), sound=("aac", clicks()))
    path.write_bytes(path.with_name("part.ts").read_bytes() * 2)


def test_a_splice_is_gone_through(tmp_path):
    joined(tmp_path / "a.ts")
    recode(read.probe(tmp_path / "a.ts"), tmp_path / "b.mp4", "mp4", same, {})
    numbers, starts, end, _ = film(tmp_path / "b.mp4")
    assert numbers == tuple(range(COUNT)) * 2
    np.testing.assert_allclose(starts, np.arange(2 * COUNT) / 12, atol=0.002)
    assert end == pytest.approx(2 * COUNT / 12, abs=0.002) and len(clicks_of(tmp_path / "b.mp4")[0]) == 4
