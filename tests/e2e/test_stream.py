"""Films: stretch by stretch the same as whole, in constant memory, and on again after a kill."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import sorano
from sorano import errors, stream, video, workfolder
from sorano.conditions import Blend, Continue, Loop
from sorano.frames import Rate, fade_out_error, feathered_alpha, resample_rate
from sorano.remix import request_of
from sorano.request import Request

path = sys.modules["sorano.engine"]
PROMPT = "a red ball"


@pytest.fixture
def make(tiny_verbs, tmp_path):
    def made(name="film.mp4", prompt=PROMPT, **options):
        words = {"preset": str(tiny_verbs), "seed": 5, "device": "cpu", "upscale": 1, "output": tmp_path / name}
        return sorano.generate(prompt, **{**words, **options})

    return made


@pytest.fixture
def emitted(monkeypatch):
    """Every frame of a film as it was before it was marked and encoded."""
    seen = []
    real = stream.Run._emit

    def emit(self, frames_THWC):
        seen.append(frames_THWC.copy())
        real(self, frames_THWC)

    monkeypatch.setattr(stream.Run, "_emit", emit)
    return lambda: np.concatenate(seen)


def given(tmp_path, name="given.mp4", size=(32, 32), count=9, fps=8, seed=0):
    """A given video: smooth, moving, in colours."""
    random = np.random.default_rng(seed)
    field = random.uniform(30, 220, (4, 4, 3)).astype(np.float32)
    import cv2

    big = cv2.resize(field, (size[0] + count, size[1]), interpolation=cv2.INTER_CUBIC)
    clip = np.stack([big[:, i : i + size[0]] for i in range(count)]).clip(0, 255).astype(np.uint8)
    return video.write_video(tmp_path / name, clip, fps)


def test_a_film_is_longer_than_a_window_and_signed(make, steady_coder):
    made = make(seconds=6)
    assert made.record["made"] == {"size": "32x32", "num_frames": 49, "fps": 8.0}
    assert made.frames_THWC.shape == (49, 32, 32, 3)
    assert made.report.verdict is sorano.Verdict.VERIFIED
    assert not workfolder.parts_of(made.path).exists()
    again = make("again.mp4", seconds=6)
    assert np.array_equal(made.frames_THWC, again.frames_THWC)  # one seed, one film


def test_the_first_window_is_what_generate_makes(make, emitted):
    whole = make("whole.mp4")
    make(seconds=6)
    difference = np.abs(emitted()[:9].astype(int) - whole.frames_THWC)
    assert difference.max() <= 1


def test_windows_share_their_latents_and_the_decoder_goes_on(make, emitted, monkeypatch):
    """The slow twin: all latents of the film decoded at once give the same frames."""
    monkeypatch.setattr(stream, "ANCHOR", 0.0)
    latents, last = [], []
    real = stream.Run._denoise_window

    def denoised(self, stretch, known, new, suffix, **how):
        latent = real(self, stretch, known, new, suffix, **how)
        if how["continues"]:
            assert torch.equal(latent[:, :, :known], last[-1][:, :, -known:])
        last.append(latent)
        latents.append(latent[:, :, known if how["continues"] else 0 :])
        return latent

    monkeypatch.setattr(stream.Run, "_denoise_window", denoised)
    made = make(seconds=5)
    model = path.load(made.request.preset, "cpu")
    whole = model.bundle.vae.decode(torch.cat(latents, 2).to(getattr(torch, model.machine.dtype)))
    from sorano.conditions import video_to_frames

    difference = np.abs(video_to_frames(whole.detach()).astype(int) - emitted())
    assert difference.max() <= 8 and difference.mean() < 0.5  # bfloat16's rounding


def test_work_grows_with_the_length_and_not_with_its_square(make):
    def flops(seconds):
        with FlopCounterMode(display=False) as counter:
            make(f"{seconds}.mp4", seconds=seconds)
        return counter.get_total_flops()

    make("warm.mp4")
    short, long, longer = flops(7.125), flops(13.125), flops(19.125)
    assert (longer - long) == pytest.approx(long - short, rel=0.01)


@pytest.mark.posix
def test_a_killed_film_goes_on_and_ends_as_an_uninterrupted_one(make, tiny_verbs, tmp_path, steady_coder):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so that sums are taken in the same order in both processes
    try:
        _kill_and_resume(make, tiny_verbs, tmp_path)
    finally:
        torch.set_num_threads(threads)


def _kill_and_resume(make, tiny_verbs, tmp_path):
    expected = make("straight.mp4", seconds=6, dtype="float32").frames_THWC
    script = f"""
import os, signal, sys
import sorano, torch
from sorano import stream, video
torch.set_num_threads(1)
video.CODER = {video.CODER!r}
stream.CHECKPOINT_SECONDS = 0.0
real, count = stream.Run._emit, [0]
def emit(self, frames):
    count[0] += 1
    if count[0] == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    real(self, frames)
stream.Run._emit = emit
sorano.generate({PROMPT!r}, preset={str(tiny_verbs)!r}, seed=5, device="cpu", dtype="float32", upscale=1,
                seconds=6, output={str(tmp_path / "film.mp4")!r})
"""
    done = subprocess.run([sys.executable, "-c", script], env={**os.environ}, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    parts = workfolder.parts_of(tmp_path / "film.mp4")
    assert not (tmp_path / "film.mp4").exists() and (parts / workfolder.STATE).stat().st_mode & 0o777 == 0o600
    with av.open(str(parts / "film.h264")) as growing:  # it can be played while it grows
        assert len(list(growing.decode(video=0))) >= 9
    with pytest.raises(errors.RequestError, match="sorano resume"):
        make(seconds=6)
    made = sorano.resume(tmp_path / "film.mp4")
    assert np.array_equal(made.frames_THWC, expected)
    assert made.report.verdict is sorano.Verdict.VERIFIED and not parts.exists()


def test_a_finished_denoise_is_not_lost_to_a_failed_decode(make, tmp_path, monkeypatch, steady_coder):
    expected = make("straight.mp4", seconds=4).frames_THWC
    monkeypatch.setattr(stream, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(stream, "WORTH_KEEPING_SECONDS", 0.0)
    with monkeypatch.context() as patched:
        patched.setattr(
            stream.Run, "_decode_window", lambda *_, **__: (_ for _ in ()).throw(errors.NumericsError("spoilt"))
        )
        with pytest.raises(errors.NumericsError) as caught:
            make(seconds=4)
    assert any("sorano resume" in note for note in caught.value.__notes__)
    denoised = []
    real = stream.Run._denoise_window
    monkeypatch.setattr(stream.Run, "_denoise_window", lambda *a, **k: denoised.append(1) or real(*a, **k))
    made = sorano.resume(tmp_path / "film.mp4")
    assert np.array_equal(made.frames_THWC, expected)
    assert len(denoised) == 6  # of 7 windows the first was not made again


def test_a_failure_leaves_nothing_where_little_is_lost(make, tmp_path, monkeypatch):
    monkeypatch.setattr(
        stream.Run, "_decode_window", lambda *_, **__: (_ for _ in ()).throw(errors.NumericsError("spoilt"))
    )
    with pytest.raises(errors.NumericsError):
        make(seconds=4)
    assert not list(tmp_path.iterdir())


def test_what_is_kept_and_broken_is_said(tmp_path, make):
    parts = workfolder.parts_of(tmp_path / "film.mp4")
    parts.mkdir()
    with pytest.raises(errors.CheckpointError, match="nothing that is finished yet"):
        sorano.resume(tmp_path / "film.mp4")
    (parts / workfolder.STATE).write_bytes(b"x" * 100)
    with pytest.raises(errors.CheckpointError, match="begin again"):
        sorano.resume(tmp_path / "film.mp4")
    assert make(seconds=4, overwrite=True).path.exists() and not parts.exists()


# Given videos.


def test_an_extension_copies_the_users_own_frames(make, emitted, tmp_path):
    file = given(tmp_path, size=(48, 32), count=12)
    made = make(seconds=1, conditions=[Continue(file)])
    own = video.read_video(file).frames_THWC
    frames = emitted()
    assert np.array_equal(frames[:12], own)  # to the bit, before it is marked and encoded
    assert len(frames) == 12 + 8 and made.frames_THWC.shape[1:3] == (32, 48)
    assert made.report.kind == "edited"
    assert made.record["files"].keys() == {"given.mp4"}


def test_an_extension_backward_ends_with_the_users_own_frames(make, emitted, tmp_path):
    file = given(tmp_path)
    make(seconds=1, conditions=[Continue(file, "backward")])
    assert np.array_equal(emitted()[-9:], video.read_video(file).frames_THWC)
    with pytest.raises(errors.RequestError, match="at once"):
        make("b.mp4", seconds=9, conditions=[Continue(file, "backward")])


def test_a_blend_and_a_loop_copy_what_they_join(make, emitted, tmp_path):
    a, b = given(tmp_path, "a.mp4", seed=1), given(tmp_path, "b.mp4", seed=2)
    make(conditions=[Blend(a, b)], seconds=1)
    frames = emitted()
    assert np.array_equal(frames[:9], video.read_video(a).frames_THWC)
    assert np.array_equal(frames[-9:], video.read_video(b).frames_THWC) and len(frames) == 9 + 8 + 9


def test_a_loop_of_what_is_made_has_the_length_that_was_asked_for(make):
    made = make(seconds=2, conditions=[Loop()])
    assert made.record["made"]["num_frames"] == 17


def test_another_rate_and_size_are_those_of_the_given_video(make, emitted, tmp_path):
    file = given(tmp_path, size=(64, 48), count=30, fps=25)
    made = make(seconds=1, conditions=[Continue(file)])
    assert made.fps == 25 and made.frames_THWC.shape[1:3] == (48, 64)
    assert made.record["made"]["num_frames"] == 30 + 25


def test_sound_is_kept_and_begins_where_its_pictures_do(make, tmp_path):
    file = given(tmp_path, count=16)
    with_sound = tmp_path / "sound.mp4"
    with av.open(str(file)) as source, av.open(str(with_sound), "w") as out:
        pictures = out.add_stream_from_template(source.streams.video[0])
        stream_ = out.add_stream("aac", rate=16_000)
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = pictures
                out.mux(packet)
        time = np.arange(32_000) / 16_000
        frame = av.AudioFrame.from_ndarray(np.sin(2_000 * time)[None].astype(np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16_000
        out.mux(stream_.encode(frame))
        out.mux(stream_.encode())
    for direction, begins in (("forward", 0.0), ("backward", 9 / 8)):  # a video of its own begins with a lone frame
        made = make(f"{direction}.mp4", seconds=1, conditions=[Continue(with_sound, direction)])
        with av.open(str(made.path)) as opened:
            heard = [frame for frame in opened.decode(audio=0) if np.abs(frame.to_ndarray()).mean() > 0.1]
            assert float(heard[0].time) == pytest.approx(begins, abs=0.15)
            assert float(heard[-1].time) == pytest.approx(begins + 2, abs=0.2)


def test_shots_follow_one_another(make, emitted, tmp_path):
    file = given(tmp_path, count=8)
    shots = [
        {"prompt": "a red ball", "seconds": 1},
        {"prompt": "a blue cube", "seconds": 1, "join": "blend"},
        {"video": file},
        {"prompt": "a green ball", "seconds": 1, "join": "blend"},
        {"prompt": "a red cube", "seconds": 1},
    ]
    made = make(prompt="", shots=shots)
    frames = emitted()
    assert np.array_equal(frames[17:25], video.read_video(file).frames_THWC)
    assert len(frames) == 9 + 8 + 8 + 8 + 9 == made.record["made"]["num_frames"]
    assert len(made.record["request"]["shots"]) == 5


def test_a_model_that_takes_a_first_frame_goes_on_from_the_last_one_and_says_so(tiny_folder, tmp_path):
    notes = []
    listener = type("L", (sorano.Listener,), {"note": lambda self, text: notes.append(text)})()
    words = {"preset": str(tiny_folder), "seed": 1, "device": "cpu", "upscale": 1, "output": tmp_path / "a.mp4"}
    made = sorano.generate(PROMPT, seconds=6, listener=listener, **words)
    assert len(made.frames_THWC) == 49
    assert any("takes a first frame only" in note for note in notes)
    with pytest.raises(errors.RequestError, match="these do: world"):
        sorano.generate(PROMPT, conditions=[Loop()], **{**words, "output": tmp_path / "b.mp4"})


def test_what_cannot_be_joined_is_refused_before_any_work(make, tmp_path, monkeypatch):
    monkeypatch.setattr(path.Engine, "load", lambda *_: pytest.fail("work began"))
    one = given(tmp_path, "one.mp4", count=1)
    wide, quick = given(tmp_path, "wide.mp4", size=(64, 32)), given(tmp_path, "quick.mp4", fps=16)
    plain = given(tmp_path, "plain.mp4")
    for conditions, words in (
        ([Continue(one)], "too short to go on from"),
        ([Blend(plain, wide)], "do not fit together"),
        ([Blend(plain, quick)], "do not fit together"),
        ([Loop(plain), Continue(plain)], "two things to do"),
        ([Continue(tmp_path / "none.mp4")], "no file"),
    ):
        with pytest.raises(errors.RequestError, match=words):
            make(conditions=conditions)
    with pytest.raises(errors.RequestError, match="does not say what it shows"):
        make(prompt="", conditions=[Continue(plain)])
    assert not Path(tmp_path / "film.mp4").exists()


# The pieces.


def test_another_rate_shows_what_is_on_screen_at_each_moment_in_any_chunks():
    frames = np.arange(24, dtype=np.uint8)[:, None, None, None].repeat(3, -1)
    for to in (12, 25, 30, 60, 23.976):
        wanted = [min(23, int(k * 24 / to + 1e-6)) for k in range(int(24 * to / 24))]
        for size in (1, 5, 24):
            chunks = [frames[i : i + size] for i in range(0, 24, size)]
            shown = np.concatenate(list(resample_rate(chunks, 24, to, len(wanted))))[:, 0, 0, 0]
            assert shown.tolist() == wanted
    assert Rate(12, 12)(frames) is frames


def test_a_region_fades_inside_and_never_outside():
    mask = np.zeros((100, 200), bool)
    mask[20:70, 0:90] = True
    alpha = feathered_alpha(mask)
    assert alpha[~mask].max() == 0 and alpha[45, 40] == 1 and 0 < alpha[20, 40] < 1
    assert alpha[45, 0] == 1  # the picture's own border is no edge


def test_taking_over_starts_at_the_old_frame_and_ends_at_the_new():
    frames = np.full((10, 2, 2, 3), 100, np.uint8)
    error = np.full((2, 2, 3), 40, np.float32)
    made = fade_out_error(frames, error, 0, 8)[:, 0, 0, 0].astype(int)
    assert 130 <= made[0] < 140 and made[7] <= 105 and made[8] == 100 and (np.diff(made) <= 0).all()
    parts = [fade_out_error(frames[:3], error, 0, 8), fade_out_error(frames[3:], error, 3, 8)]
    assert np.array_equal(np.concatenate(parts)[:, 0, 0, 0], made)


def test_two_files_of_one_name_stay_two_when_the_video_is_made_again(make, emitted, tiny_verbs, tmp_path):
    files = []
    for number in (1, 2):
        (tmp_path / str(number)).mkdir()
        files.append(given(tmp_path / str(number), "clip.mp4", seed=number))
    made = make(conditions=[Blend(*files)], seconds=1)
    assert list(made.record["files"]) == ["clip.mp4", "clip (2).mp4"]
    first = emitted()
    words = request_of(made.path)
    assert [Path(words["conditions"][0][name]).suffix for name in ("first", "second")] == [".mp4", ".mp4"]
    sorano.generate(Request(**{**words, "preset": str(tiny_verbs)}), output=tmp_path / "again.mp4")
    assert np.array_equal(emitted()[len(first) :], first)


def test_a_film_is_cancelled_after_the_step_at_hand_in_the_middle_of_a_window(make, monkeypatch):
    from sorano.sampling import denoise as sampling

    cancel, steps, real = sorano.Cancel(), [], sampling.denoise

    def counted(*given, **options):
        for step in real(*given, **options):
            steps.append(step.index)
            if len(steps) == 3:
                cancel.set()
            yield step

    monkeypatch.setattr(sampling, "denoise", counted)
    with pytest.raises(sorano.Cancelled):
        make(seconds=6, num_steps=8, cancel=cancel)
    assert steps == [1, 2, 3]
