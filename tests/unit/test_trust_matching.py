"""Copies against a signed fingerprint: what is the same, what was changed and when, and what is another picture."""

import io
import struct
from dataclasses import replace

import av
import cv2
import numpy as np
import pytest
from support import copies, corpus, footage

from sorano import errors
from sorano.trust.copies import audio_fingerprint, fingerprint, matching
from sorano.trust.copies.fingerprint import MAX_BYTES, FingerprintBuilder

FPS, HEIGHT, WIDTH, FRAMES = 24, 180, 320, 96
WHOLE = (1.0, False)  # what the mark says of a picture that was not cropped
SECOND = FPS


def coded(frames, crf=28, **options):
    """RGB frames after a coder."""
    return footage.coded(frames, crf, preset="veryfast", pixels="rgb24", **options)


def seen(frames, fps=FPS, starts=None, end=None, still=False):
    """What `verify` remembers of frames, at their times."""
    fingerprinter = FingerprintBuilder(fps, still=still, picture_seconds=0, most_pictures=4096)
    fingerprinter.add(frames, starts, end)
    fingerprinter.listen([])
    return fingerprinter.stored()


def kinds(match):
    return {change.kind for change in match.changes}


@pytest.fixture(scope="module", params=["speaker", "street"])
def clip(request):
    """A clip, its signed fingerprint as it is read back, and the clip coded again."""
    frames = footage.clip(request.param, HEIGHT, WIDTH, FRAMES, 1)
    signed = fingerprint.from_bytes(fingerprint.take(frames, FPS).to_bytes())
    return frames, signed, coded(frames)


@pytest.fixture(scope="module")
def other():
    return footage.clip("leaves", HEIGHT, WIDTH, FRAMES, 2)


# Honest copies.


def honest(frames, plain):
    at_30 = np.floor(np.arange(FRAMES * 30 // FPS) * FPS / 30).astype(int)
    small = np.stack([cv2.resize(f, (WIDTH // 2, HEIGHT // 2), interpolation=cv2.INTER_AREA) for f in frames])
    return {
        "CRF 18": (coded(frames, 18), FPS),
        "CRF 33": (coded(frames, 33), FPS),
        "half size": (coded(small, 26), FPS),
        "30 fps": (plain[at_30], 30),
        "12 fps": (plain[::2], 12),
        "darker": (coded((frames * 0.7).astype(np.uint8)), FPS),
        "a tone curve": (np.clip(255 * (plain / 255.0) ** 0.75, 0, 255).astype(np.uint8), FPS),
        "mirrored": (plain[:, :, ::-1], FPS),
        "VP9": (coded(frames, 36, codec="libvpx-vp9"), FPS),
    }


def test_honest_copies_are_the_same(clip):
    frames, signed, plain = clip
    for name, (copy, fps) in honest(frames, plain).items():
        found = matching.match(signed, seen(copy, fps), (1.0, name == "mirrored"))
        assert found.state == "same" and found.share > 0.99 and found.part is None, (name, found)


def test_crops_are_the_same_and_said(clip):
    frames, signed, _ = clip
    copy = coded(frames[:, 12 : 12 + 152, 20 : 20 + 272])
    found = matching.match(signed, seen(copy), (1 / 0.85, False))
    assert found.state == "same", found
    assert abs(found.crop.left - 20 / WIDTH) < 0.03 and abs(found.crop.width - 0.85) < 0.03


@pytest.mark.parametrize("kind", ["still", "slides"])
def test_crops_of_zooming_and_scrolling_pictures_are_the_same(kind):
    """In a zoom another size, in a scroll another place look like another time: the mark says how large the crop is."""
    frames = corpus.clip(kind, {"still": 23, "slides": 21}[kind], (270, 480), 3.0)
    signed = fingerprint.from_bytes(fingerprint.take(frames, FPS).to_bytes())
    shown, fps = copies.COPIES["crop 0.85"](frames, FPS)
    found = matching.match(signed, seen(shown, fps), (1 / 0.85, False))
    assert found.state == "same", found.changes
    assert abs(found.crop.width - 0.85) < 0.005


def test_a_denoiser_that_mixes_frames_is_not_taken_for_a_change():
    """At a cut such a copy has no frame that is like the original's, but each is a mixture of two."""
    random = np.random.default_rng(3)
    shots = [footage.clip(kind, HEIGHT, WIDTH, 10, 5) for kind in ("street", "speaker", "leaves") * 3]
    frames = np.concatenate([shots[n] for n in random.permutation(len(shots))])
    signed = fingerprint.from_bytes(fingerprint.take(frames, FPS).to_bytes())
    mixed = [frames[0], *(cv2.addWeighted(b, 0.75, a, 0.25, 0) for a, b in zip(frames, frames[1:], strict=False))]
    assert matching.match(signed, seen(coded(np.stack(mixed), 23)), WHOLE).same


@pytest.mark.parametrize(("first", "last"), [(SECOND, FRAMES), (0, FRAMES - SECOND), (SECOND, 3 * SECOND)])
def test_a_trimmed_copy_says_which_part_it_is(clip, first, last):
    _, signed, plain = clip
    found = matching.match(signed, seen(plain[first:last]), WHOLE)
    assert found.state == "same" and found.part == pytest.approx((first / FPS, last / FPS, 4.0), abs=0.05)


# Forged ones.


def test_foreign_detail_on_the_original_s_coarse_light_is_no_copy_and_no_accusation(clip, other):
    frames, signed, _ = clip
    for step in (16, 5):  # pixels: three cells, and one
        size = (round(WIDTH / step), round(HEIGHT / step))
        mixed = [
            means_of(a, size) + b.astype(np.float32) - means_of(b, size) for a, b in zip(frames, other, strict=True)
        ]
        found = matching.match(signed, seen(coded(np.clip(mixed, 0, 255).astype(np.uint8), 23)), WHOLE)
        assert found.state != "same" and all(change.harmless for change in found.changes), (step, found)
        assert found.state == "other" or kinds(found) == {"detail"}, (step, found)


def means_of(frame, size):
    small = cv2.resize(frame.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)


def test_another_colour_at_equal_luma_is_named_with_its_place(clip):
    frames, signed, _ = clip
    shift = np.float32([1.402, -0.714136, 0]) * 35 - np.float32([0, -0.344136, 1.772]) * 35
    painted = frames.astype(np.float32)
    painted[:, 60:120, 80:150] += shift - shift @ np.float32([0.2126, 0.7152, 0.0722])
    found = matching.match(signed, seen(coded(np.clip(painted, 0, 255).astype(np.uint8))), WHOLE)
    assert found.state == "changed" and any(
        "colours" in change.words and change.box[0] < 115 / WIDTH < change.box[2] for change in found.changes
    ), found


def attacks(plain, other):
    """name -> frames, the kinds of change that may be named, and when it begins."""
    put_in = [np.concatenate([plain[:48], other[:count], plain[48:]]) for count in (1, 6, 12)]
    return {
        "one foreign frame": (put_in[0], {"foreign"}, 2.0),
        "a quarter second put in": (put_in[1], {"foreign"}, 2.0),
        "half a second put in": (put_in[2], {"foreign"}, 2.0),
        "the middle second cut out": (np.concatenate([plain[:36], plain[60:]]), {"cut"}, 1.5),
        "frozen for a second": (np.concatenate([plain[:48], plain[[47] * 24], plain[48:]]), {"held", "order"}, None),
        "held over a second": (np.concatenate([plain[:36], plain[[35] * 24], plain[60:]]), {"held"}, None),
        "slowed": (plain[np.floor(np.arange(128) * 0.75).astype(int)], {"speed"}, 0.0),
        "doubled": (plain[::2], {"speed"}, 0.0),
        "backwards": (plain[::-1], {"order"}, 0.0),
        "another order": (np.concatenate([plain[48:], plain[:48]]), {"order"}, 2.0),
        "shown twice": (np.concatenate([plain, plain]), {"order"}, 4.0),
    }


def test_what_was_changed_is_named_with_its_time(clip, other):
    _, signed, plain = clip
    for name, (copy, allowed, start) in attacks(plain, other).items():
        found = matching.match(signed, seen(copy), WHOLE)
        assert found.state == "changed", (name, found)
        assert kinds(found) and kinds(found) <= allowed, (name, found.changes)
        if start is not None:
            assert found.changes[0].start_s == pytest.approx(start, abs=0.1), (name, found.changes)


def test_a_repainted_mouth_is_found_where_it_is(clip, other):
    frames, signed, _ = clip
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    inside = np.clip((1.1 - np.hypot((x - 160) / 24, (y - 100) / 15)) / 0.15, 0, 1)[..., None]  # 2 % of the picture
    painted = frames.copy()
    for t in range(SECOND, 3 * SECOND):
        content = other[t] - other[t].mean() + frames[t][inside[..., 0] > 0.5].mean()
        painted[t] = np.clip(inside * content + (1 - inside) * frames[t], 0, 255)
    for crf in (23, 28):
        found = matching.match(signed, seen(coded(painted, crf)), WHOLE)
        assert kinds(found) == {"region"}, found
        change = found.changes[0]
        left, top, right, bottom = change.box
        assert left < 160 / WIDTH < right and top < 100 / HEIGHT < bottom and right - left < 0.35
        assert change.start_s == pytest.approx(1, abs=0.4) and change.end_s == pytest.approx(3, abs=0.4)


def test_foreign_films_with_some_genuine_frames_are_no_copies(clip, other):
    _, signed, plain = clip
    one = np.concatenate([other[:30], plain[:1], other[30:59]])
    few = np.concatenate([np.concatenate([plain[at : at + 1], other]) for at in (10, 40, 70)])
    brief = np.concatenate([other[::4], plain[10:14]])
    times = np.concatenate([np.arange(24) / 6, 4 + np.arange(4) / 90_000])
    for copy in (seen(one), seen(few), seen(brief, FPS, times, 4 + 4 / 90_000)):
        assert matching.match(signed, copy, WHOLE).state == "other"


def test_frames_that_nobody_sees_count_for_nothing(clip, other):
    _, signed, plain = clip
    frames = np.concatenate([plain[:48], other[:1], plain[48:]])
    starts = np.concatenate([np.arange(48), [48 - FPS / 90_000], np.arange(48, 96)]) / FPS
    assert matching.match(signed, seen(frames, FPS, starts, 4.0)).state == "same"
    starts[48] = 47.5 / FPS  # a fiftieth of a second can be seen
    assert kinds(matching.match(signed, seen(frames, FPS, starts, 4.0))) == {"foreign"}


def test_other_clips_of_the_same_kind_are_others(clip):
    _, signed, _ = clip
    for kind in footage.KINDS:
        assert matching.match(signed, seen(footage.clip(kind, HEIGHT, WIDTH, 48, 9)), WHOLE).state == "other", kind


def test_pictures_and_videos_do_not_match_each_other(clip):
    frames, signed, plain = clip
    still = fingerprint.take(frames[:1], 1.0, still=True)
    talking = matching.match(still, seen(np.repeat(plain[:1], 48, 0)))
    assert talking.state == "other" and "a video made of a picture" in talking.why
    assert "a picture made of a video" in matching.match(signed, seen(plain[:1], 1.0, still=True)).why
    assert matching.match(still, seen(coded(frames[:1], 20), 1.0, still=True)).state == "same"
    painted = frames[:1].copy()
    painted[:, 80:110, 140:190] = painted[:, 20:50, 10:60] // 2 + 60
    assert kinds(matching.match(still, seen(painted, 1.0, still=True))) == {"region"}


def test_plain_pictures_are_evidence_of_nothing():
    black = np.full((48, HEIGHT, WIDTH, 3), 16, np.uint8)
    assert matching.match(fingerprint.take(black, FPS), seen(black)).state == "other"


# The fingerprint itself.


def test_a_fingerprint_is_bounded_whatever_the_length():
    fingerprinter = FingerprintBuilder(30, most_frames=4096, most_pictures=64)
    rng = np.random.default_rng(0)
    block = rng.integers(0, 256, (64, 36, 64, 3), np.uint8)
    for number in range(80):
        fingerprinter.add(block[:, :, ::-1] if number % 2 else block)
    assert len(fingerprinter.hashes) <= 4096 and len(fingerprinter.pictures) <= 64 and fingerprinter.stride == 2
    stored = fingerprint.from_bytes(fingerprinter.stored().to_bytes())
    assert stored.length == pytest.approx(80 * 64 / 30) and len(stored.hashes_TYX) == 2560
    wide = FingerprintBuilder(30)
    wide.pictures = [
        (t / 4, *(rng.integers(0, 256, shape, np.uint8) for shape in ((36, 64), (2, 18, 32), (2, 18, 32))))
        for t in range(1500)
    ]
    wide.hashes, wide.starts = list(rng.integers(0, 256, (40_000, 12, 12), np.uint8)), [t / 30 for t in range(40_000)]
    wide.size, wide.count, wide.end = (360, 640), 40_000, 40_000 / 30
    data = wide.stored().to_bytes()
    assert len(data) <= MAX_BYTES
    read = fingerprint.from_bytes(data)
    assert read.starts_T[-1] > 1300 and read.picture_starts_K[-1] > 350 and read.detail_K2YX is not None


def test_taking_goes_on_from_its_state(clip):
    frames, _, _ = clip
    first, second = FingerprintBuilder(FPS), FingerprintBuilder(FPS)
    first.add(frames[:40])
    second.restore(first.state())
    second.add(frames[40:])
    second.listen([])
    assert second.stored().to_bytes() == fingerprint.take(frames, FPS).to_bytes()


def test_a_fingerprint_that_was_signed_without_detail_is_read_and_compared(clip):
    frames, signed, plain = clip
    taken = fingerprint.take(frames, FPS)
    old = fingerprint.from_bytes(replace(taken, detail_K2YX=None).to_bytes())
    assert old.detail_K2YX is None and (old.luma_KYX == signed.luma_KYX).all()
    assert matching.match(old, seen(plain), WHOLE).state == "same"
    assert np.abs(signed.detail_K2YX.astype(int) - taken.detail_K2YX).max() <= fingerprint.DETAIL_STEP // 2
    before = FingerprintBuilder(FPS)  # a run that began before detail was taken and goes on now
    before.add(frames[:24])
    state = {name: value for name, value in before.state().items() if name != "detail"}
    after = FingerprintBuilder(FPS)
    after.restore(state)
    after.add(frames[24:])
    after.listen([])
    assert fingerprint.from_bytes(after.stored().to_bytes()).detail_K2YX is None


@pytest.mark.parametrize(
    "content", [b"", b"\2", b"\3" + bytes(60), struct.pack(">BBHHBIIId", 2, 0, 64, 64, 4, 9, 9, 0, 1.0) + bytes(40)]
)
def test_a_fingerprint_that_is_none_is_refused(content):
    with pytest.raises(errors.TrustError):
        fingerprint.from_bytes(content)


def test_mutated_fingerprints_are_refused_or_read_but_never_crash(clip):
    frames, _, _ = clip
    data = fingerprint.take(frames[:12], FPS).to_bytes()
    rng = np.random.default_rng(3)
    for _ in range(100):
        changed = bytearray(data[: int(rng.integers(1, len(data) + 1))])
        changed[int(rng.integers(0, len(changed)))] ^= 1 << int(rng.integers(8))
        try:
            matching.match(fingerprint.from_bytes(bytes(changed)), seen(frames[:12]))
        except errors.TrustError:
            continue


# Sound.


def speech(seed, seconds=6, rate=16_000):
    """Syllables: harmonics under three formants, with pauses."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * rate)) / rate
    out, at = np.zeros(len(time)), 0.0
    while at < seconds:
        lasts, pitch, formants = rng.uniform(0.08, 0.3), rng.uniform(90, 220), rng.uniform(300, 3000, 3)
        part = slice(int(at * rate), int((at + lasts) * rate))
        order = np.arange(1, 30)
        loud = np.exp(-(((order * pitch)[:, None] - formants) ** 2) / 200**2).sum(1) + 0.02
        waves = (loud[:, None] * np.sin(2 * np.pi * pitch * order[:, None] * time[None, part])).sum(0)
        out[part] += waves * np.hanning(len(waves) + 2)[1:-1]
        at += lasts + rng.uniform(0, 0.2)
    return (out / np.abs(out).max() * 0.5).astype(np.float32)


def recoded(samples, rate=16_000, bit_rate=48_000):
    held = io.BytesIO()
    with av.open(held, "w", format="mp4") as out:
        stream = out.add_stream("aac", rate=rate)
        stream.bit_rate = bit_rate
        for start in range(0, len(samples), 1024):
            frame = av.AudioFrame.from_ndarray(samples[None, start : start + 1024], format="fltp", layout="mono")
            frame.rate, frame.pts = rate, start
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    held.seek(0)
    with av.open(held) as given:
        return np.concatenate([frame.to_ndarray()[0] for frame in given.decode(audio=0)])


def heard(samples):
    fingerprinter = audio_fingerprint.SoundPrintBuilder()
    for start in range(0, len(samples), 5000):
        fingerprinter.add(samples[start : start + 5000])
    return fingerprinter.print()


def test_coded_quieter_and_trimmed_sound_is_the_same():
    voice = speech(1)
    signed = audio_fingerprint.SoundPrint.from_bytes(heard(voice).to_bytes(300_000))
    for name, copy, offset in (
        ("coded", recoded(voice), 0.0),
        ("coarsely", recoded(voice, bit_rate=24_000), 0.0),
        ("quiet", recoded(voice * 0.2), 0.0),
        ("trimmed", recoded(voice[32_300:]), 32_300 / 16_000),
    ):
        assert audio_fingerprint.differences(signed, heard(copy), offset, len(copy) / 16_000) == [], name


def test_replaced_added_and_missing_sound_is_named():
    voice, other_voice = speech(1), speech(2)
    signed, nothing = heard(voice), heard(np.zeros(0, np.float32))
    word = voice.copy()
    word[40_000:48_000] = other_voice[40_000:48_000]
    (found,) = audio_fingerprint.differences(signed, heard(recoded(word)), 0.0, 6.0)
    assert "differs" in found.words and found.start_s < 2.8 < found.end_s and not found.harmless
    (found,) = audio_fingerprint.differences(signed, heard(recoded(other_voice)), 0.0, 6.0)
    assert found.words == "its sound is another"
    (found,) = audio_fingerprint.differences(signed, nothing, 0.0, 6.0)
    assert found.words == "its sound is missing" and found.harmless
    (found,) = audio_fingerprint.differences(nothing, signed, 0.0, 6.0)
    assert "sound was added" in found.words and not found.harmless
    assert audio_fingerprint.differences(nothing, heard(np.zeros(50_000, np.float32)), 0.0, 3.0) == []


@pytest.mark.parametrize("size", [(540, 960), (361, 641), (96, 128), (33, 70)])
def test_clipped_pixels_are_those_of_every_step_in_all_channels(size):
    frame = np.random.default_rng(1).choice(np.array([0, 1, 128, 254, 255], np.uint8), (*size, 3))
    rows, columns = fingerprint.grid_of(*size)
    step = max(1, min(size[0] // rows, size[1] // columns) // 4)
    some = frame[::step, ::step]
    bright = (some.max(-1) >= fingerprint.BRIGHTEST).astype(np.uint8) * 255
    dark = (some.min(-1) <= fingerprint.DARKEST).astype(np.uint8) * 255
    wanted = np.stack([fingerprint._scaled(mask, rows, columns) for mask in (bright, dark)])
    assert 0 < wanted.max() and np.array_equal(fingerprint.clipped(frame), wanted)
