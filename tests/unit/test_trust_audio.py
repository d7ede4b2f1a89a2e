"""The mark in sound."""

import struct

import av
import numpy as np
import pytest
from attacks.tools import Track, encode, frames_of, sound_of, voice
from hypothesis import given, settings
from hypothesis import strategies as st
from support import footage
from support.voices import RATE, speech, through, write_sound
from typer.testing import CliRunner

from sorano import cli
from sorano.errors import RequestError
from sorano.trust import record
from sorano.trust.verify import Verdict, verify
from sorano.trust.watermark.audio import AudioDetector, AudioMarker, detect_audio, mark_audio


@pytest.mark.parametrize(
    "codec, bit_rate, rate",
    [("libopus", 24_000, RATE), ("libmp3lame", 32_000, RATE), ("aac", 64_000, RATE), ("pcm_s16le", 0, 8_000)],
)
def test_the_mark_survives(codec, bit_rate, rate):
    marked = mark_audio(speech(1), RATE, 0xBEEF)
    sound, found_rate = through(marked, codec, bit_rate, rate)
    found = detect_audio(sound[found_rate // 7 :], found_rate)
    assert found is not None and found.payload == 0xBEEF and found.false_accept_rate < 1e-5


def test_unmarked_sound_and_wrong_keys_read_nothing():
    marked = mark_audio(speech(2), RATE, 1)
    assert detect_audio(speech(2), RATE) is None
    assert detect_audio(marked, RATE, key=bytes(16)) is None
    assert detect_audio(marked[:1000], RATE) is None
    assert detect_audio(np.zeros(RATE * 4), RATE) is None


def test_channels_and_integers_keep_their_kind():
    stereo = np.stack([speech(3), 0.5 * speech(4)], -1)
    marked = mark_audio(stereo, RATE, 77)
    assert marked.shape == stereo.shape and marked.dtype == stereo.dtype
    whole = (stereo * 32767).astype(np.int16)
    from_whole = mark_audio(whole, RATE, 77)
    assert from_whole.dtype == np.int16 and np.abs(from_whole / 32767 - marked).max() < 1e-3
    assert detect_audio(from_whole, RATE).payload == 77
    error = marked - stereo
    assert 10 * np.log10((stereo**2).sum() / (error**2).sum()) > 18


def test_wrong_sound_is_refused():
    with pytest.raises(RequestError):
        mark_audio(speech(1), RATE, 1 << 16)
    with pytest.raises(RequestError):
        mark_audio(speech(1), 4_000, 1)
    with pytest.raises(RequestError):
        mark_audio(np.zeros((2, 2, 2)), RATE, 1)


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(0, 20_000), max_size=30), st.sampled_from([8_000, 16_000, 44_100, 48_000]))
def test_pieces_are_marked_and_read_as_the_whole_is(lengths, rate):
    sound = np.stack([speech(6, 4, rate), speech(7, 4, rate)], -1)
    marker, detector, pieces, at = AudioMarker(0x1234, rate, 2), AudioDetector(rate), [], 0
    for length in [*lengths, len(sound)]:
        pieces.append(marker(sound[at : at + length]))
        at = min(len(sound), at + length)
    pieces.append(marker.finish())
    marked = np.concatenate(pieces)
    assert marked.shape == sound.shape and np.abs(marked - mark_audio(sound, rate, 0x1234)).max() < 1e-6
    at = 0
    for length in [*lengths, len(sound)]:
        detector.add(marked[at : at + length].mean(1))
        at += length
    assert detector.detect() == detect_audio(marked, rate) and detector.detect().payload == 0x1234


def read_sound(path):
    with av.open(str(path)) as container:
        to_float = av.AudioResampler(format="flt", layout="mono", rate=RATE)
        return np.concatenate([p.to_ndarray()[0] for f in container.decode(audio=0) for p in to_float.resample(f)])


def audio_evidence(report):
    return next((one.found for one in report.evidence if one.about == "audio mark"), None)


@pytest.mark.parametrize(
    "codec, suffix, becomes",
    [
        ("pcm_s16le", ".wav", ".wav"),
        ("libmp3lame", ".mp3", ".mp3"),
        ("aac", ".m4a", ".m4a"),
        ("flac", ".flac", ".flac"),
        ("libopus", ".ogg", ".m4a"),
    ],
)
def test_a_voice_message_is_marked_signed_and_read_back(tmp_path, codec, suffix, becomes):
    source = write_sound(tmp_path / f"voice{suffix}", speech(8), codec)
    before = source.read_bytes()
    done = record.mark_file(source)
    assert done.path == tmp_path / f"voice.marked{becomes}" and source.read_bytes() == before
    report = verify(done.path)
    assert report.verdict is (Verdict.UNVERIFIED if becomes == ".flac" else Verdict.VERIFIED)
    assert "public mark" in audio_evidence(report) and not any("read back" in note for note in done.notes)
    heard, given_ = read_sound(done.path), read_sound(source)
    assert abs(len(heard) - len(given_)) <= 0.06 * RATE  # an encoder's first samples
    assert audio_evidence(verify(source)) is None


def test_a_forwarded_voice_message_still_carries_its_mark_and_a_changed_one_is_tampered(tmp_path):
    source = write_sound(tmp_path / "voice.wav", speech(9), "pcm_s16le")
    signed = record.mark_file(source).path
    message = write_sound(tmp_path / "message.ogg", read_sound(signed), "libopus", bit_rate=24_000)
    report = verify(message)
    assert report.verdict is Verdict.UNVERIFIED and "none in the picture" in audio_evidence(report)
    data = bytearray(signed.read_bytes())
    data[len(data) // 2] ^= 1
    changed = tmp_path / "changed.wav"
    changed.write_bytes(data)
    assert verify(changed).verdict is Verdict.TAMPERED


def chunk(name, data):
    """A chunk of a RIFF file."""
    return name + struct.pack("<I", len(data)) + data


def added(data, more):
    """A WAV file with more chunks, whose size is right."""
    return data[:4] + struct.pack("<I", len(data) + len(more) - 8) + data[8:] + more


FORGED = {
    "bytes behind a WAV": (".wav", lambda data: data + b"hello world!"),
    "a second track in a WAV": (".wav", lambda data: added(data, chunk(b"data", b"\1\2" * 1000))),
    "a second credential in a WAV": (".wav", lambda data: added(data, chunk(b"C2PA", b"junk" * 100))),
    "another rate of a WAV": (".wav", lambda data: data.replace(struct.pack("<I", RATE), struct.pack("<I", 24_000), 1)),
    "more frames in an MP3": (".mp3", lambda data: data + data[-20_000:]),
    "a tag behind an MP3": (".mp3", lambda data: data + b"TAG" + b"x" * 125),
    "a box behind an M4A": (".m4a", lambda data: data + struct.pack(">I4s", 16, b"free") + b"evil\0\0\0\0"),
}


@pytest.fixture(scope="module")
def signed_voices(tmp_path_factory):
    """A signed voice in each kind of file, and whose keys they are."""
    folder = tmp_path_factory.mktemp("voices")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SORANO_CONFIG", str(folder / "config"))
        patch.setenv("SORANO_STORE", str(folder / "store"))
        source = write_sound(folder / "voice.wav", speech(11, seconds=3), "pcm_s16le")
        yield {suffix: record.mark_file(source, folder / f"signed{suffix}").path for suffix in (".wav", ".mp3", ".m4a")}


@pytest.mark.parametrize("name", FORGED)
def test_a_signed_voice_that_was_added_to_is_tampered(name, signed_voices, tmp_path):
    suffix, change = FORGED[name]
    forged = tmp_path / f"forged{suffix}"
    forged.write_bytes(change(signed_voices[suffix].read_bytes()))
    assert verify(forged).verdict is Verdict.TAMPERED


def test_a_voice_is_never_replaced_by_less(tmp_path):
    deep = write_sound(tmp_path / "deep.wav", speech(12, seconds=5), "pcm_s24le")
    done = record.mark_file(deep, deep, overwrite=True)
    with av.open(str(deep)) as container:
        assert container.streams.audio[0].codec_context.name == "pcm_s24le" and not done.notes
    flac = write_sound(tmp_path / "deep.flac", speech(12, seconds=3), "flac", bits=24)
    before = flac.read_bytes()
    with pytest.raises(RequestError, match="replaced by less: its samples of more than 16 bits become 16"):
        record.mark_file(flac, flac, overwrite=True)
    assert flac.read_bytes() == before and "become 16" in record.mark_file(flac).notes[0]


def test_a_folder_gets_a_voice_under_a_name_that_can_be_written(tmp_path):
    write_sound(tmp_path / "message.ogg", speech(13, seconds=3), "libopus")
    (tmp_path / "out").mkdir()
    done = CliRunner().invoke(cli.app, ["mark", str(tmp_path / "message.ogg"), "-o", str(tmp_path / "out")])
    assert done.exit_code == 0 and done.stdout.strip() == str(tmp_path / "out" / "message.m4a")


def test_what_ai_spoke_is_labelled_and_never_marked_as_a_recording(tmp_path):
    source = write_sound(tmp_path / "voice.wav", speech(10), "pcm_s16le")
    made = record.mark_file(source, tmp_path / "made.m4a", record.Marking(kind="made")).path
    assert any(one.about == "label" for one in verify(made).evidence)
    with pytest.raises(RequestError, match="cannot be marked as a recording"):
        record.mark_file(made, tmp_path / "laundered.m4a")
    with pytest.raises(RequestError, match="no picture for a visible label"):
        record.mark_file(source, tmp_path / "x.wav", record.Marking(kind="made", visible_label=True))
    with pytest.raises(RequestError, match="must end in"):
        record.mark_file(source, tmp_path / "x.mp4")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made.m4a", "voice.wav"]


def test_the_audio_of_a_video_is_marked_when_asked_and_a_foreign_one_is_told_from_it(tmp_path):
    frames = footage.clip("speaker", 256, 256, 96, 1)
    source = encode(tmp_path / "talk.mp4", frames, sound=voice(4.0, 1))
    done = record.mark_file(source, tmp_path / "marked.mp4", record.Marking(mark_audio=True))
    assert "its audio (aac) is coded again as aac" in done.notes and len(done.notes) == 1
    own = encode(tmp_path / "own.mp4", Track(frames_of(done.path), crf=26), sound=sound_of(done.path))
    assert "that of the picture's" in audio_evidence(verify(own))
    sound = mark_audio(voice(4.0, 2), RATE, 0x7777)
    foreign = encode(tmp_path / "foreign.mp4", Track(frames_of(done.path), crf=26), sound=sound)
    report = verify(foreign)
    assert "...7777" in audio_evidence(report) and "not that of the picture's" in audio_evidence(report)
    assert report.verdict is Verdict.TAMPERED


def test_a_video_without_audio_has_none_to_mark(tmp_path):
    source = encode(tmp_path / "mute.mp4", footage.clip("speaker", 128, 128, 12, 1))
    with pytest.raises(RequestError, match="no audio to mark"):
        record.mark_file(source, tmp_path / "x.mp4", record.Marking(mark_audio=True))
    assert [path.name for path in tmp_path.iterdir()] == ["mute.mp4"]
