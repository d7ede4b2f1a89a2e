"""A run whose decoding failed or was killed is finished from its kept latent."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from sorano import cli, generate, stream, workfolder
from sorano.errors import Cancelled, CapacityError, CheckpointError, NumericsError, RequestError
from sorano.listener import Cancel, Listener
from sorano.models import checkpoint
from sorano.request import Request

path = sys.modules["sorano.engine"]


@pytest.fixture
def request_(tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(stream, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(stream, "WORTH_KEEPING_SECONDS", 0.0)
    return Request(
        prompt="a red ball", preset=str(tiny_folder), seed=5, output=str(tmp_path / "a.mp4"), device="cpu", upscale=1
    )


def test_nothing_is_left_beside_a_run_that_succeeds(request_, tmp_path):
    generate(request_)
    assert [file.name for file in tmp_path.iterdir()] == ["a.mp4"]


def test_a_failed_decode_is_finished_and_gives_the_same_frames(request_, tmp_path, monkeypatch):
    expected = generate(request_, output=str(tmp_path / "straight.mp4")).frames_THWC
    with monkeypatch.context() as patched:
        patched.setattr(stream, "require_picture", lambda frames: (_ for _ in ()).throw(NumericsError("spoilt")))
        with pytest.raises(NumericsError) as caught:
            generate(request_)
    left = tmp_path / "a.mp4.parts"
    assert caught.value.__notes__ == [f"what is finished is kept: sorano resume {tmp_path / 'a.mp4'}"]
    assert (left / workfolder.STATE).stat().st_mode & 0o777 == 0o600
    video = path.resume(tmp_path / "a.mp4")
    assert np.array_equal(video.frames_THWC, expected) and (tmp_path / "a.mp4").is_file()
    assert not left.exists()


def test_a_run_is_finished_from_any_folder_elsewhere_and_with_the_decoder_alone(
    request_, tmp_path, tiny_folder, monkeypatch
):
    expected = generate(request_, output=str(tmp_path / "straight.mp4")).frames_THWC
    monkeypatch.chdir(tiny_folder.parent)
    with monkeypatch.context() as patched:
        patched.setattr(stream, "require_picture", lambda frames: (_ for _ in ()).throw(NumericsError("spoilt")))
        with pytest.raises(NumericsError):
            generate(request_, preset=tiny_folder.name, output="b.mp4")
    left = tiny_folder.parent / "b.mp4"
    monkeypatch.chdir(tmp_path)
    filled = []
    real = checkpoint.fill
    monkeypatch.setattr(checkpoint, "fill", lambda folder, *rest: filled.append(folder.name) or real(folder, *rest))
    path.ENGINE.unload()
    with pytest.raises(CapacityError):
        path.resume(left, memory="1MB")
    video = path.resume(left, device="cpu")
    assert filled == ["vae"] and np.array_equal(video.frames_THWC, expected)
    (tiny_folder.parent / "b.mp4").unlink()


@pytest.mark.posix
def test_a_run_that_was_killed_while_decoding_is_finished_by_the_command(request_, tmp_path):
    script = f"""
import os, signal, sys
import sorano
from sorano import stream
stream.CHECKPOINT_SECONDS = 0.0
stream.decode = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
sorano.generate("a red ball", preset={request_.preset!r}, seed=5, output={request_.output!r}, device="cpu")
"""
    done = subprocess.run([sys.executable, "-c", script], env={**os.environ}, capture_output=True)
    assert done.returncode == -signal.SIGKILL
    assert [file.name for file in tmp_path.iterdir()] == ["a.mp4.parts"]
    result = CliRunner().invoke(cli.app, ["resume", request_.output])
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == request_.output and os.path.isfile(request_.output)


def test_a_short_run_keeps_nothing(request_, tmp_path, monkeypatch):
    monkeypatch.setattr(stream, "WORTH_KEEPING_SECONDS", 1e9)
    monkeypatch.setattr(stream, "require_picture", lambda frames: (_ for _ in ()).throw(NumericsError("spoilt")))
    with pytest.raises(NumericsError):
        generate(request_)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_kept_latent_is_refused(tmp_path):
    with pytest.raises(RequestError, match="there is no file"):
        path.resume(tmp_path / "none.latent.safetensors")
    (tmp_path / "bad.latent.safetensors").write_bytes(b"something else")
    with pytest.raises(CheckpointError, match="not a latent that a run kept"):
        path.resume(tmp_path / "bad.latent.safetensors")


def test_a_latent_that_an_older_version_kept_is_finished(request_, tmp_path):
    import json

    import torch
    from safetensors.torch import save_file

    latents = []
    real = stream.denoise
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(stream, "denoise", lambda *rest: latents.append(real(*rest)) or latents[-1])
        expected = generate(request_, output=str(tmp_path / "straight.mp4"))
    words = expected.request.to_json() | {"output": request_.output}
    left = tmp_path / "a.latent.safetensors"
    save_file({"latent": latents[0].to(torch.float32).contiguous()}, left, metadata={"request": json.dumps(words)})
    assert np.array_equal(path.resume(left).frames_THWC, expected.frames_THWC)
    assert (tmp_path / "a.mp4").is_file() and not left.exists()


def test_a_run_is_cancelled_within_one_step_and_leaves_nothing(request_, tmp_path):
    cancel, steps = Cancel(), []

    class Stops(Listener):
        def progress(self, stage, done, total):
            steps.append((stage, done))
            if (stage, done) == ("denoise", 2):
                cancel.set()

    with pytest.raises(Cancelled):
        generate(request_, listener=Stops(), cancel=cancel, num_steps=8)
    assert steps[-1] == ("denoise", 2)
    assert list(tmp_path.iterdir()) == []


def test_a_run_keeps_its_state_in_the_work_folder_that_it_is_given(request_, tmp_path, monkeypatch):
    engine, elsewhere = path.Engine(), tmp_path / "work"
    planned = path.prepare(request_, Listener())
    with monkeypatch.context() as patched:
        patched.setattr(stream, "decode", lambda *_: (_ for _ in ()).throw(NumericsError("spoilt")))
        with pytest.raises(NumericsError):
            engine.run(planned, work_folder=elsewhere)
    assert [file.name for file in tmp_path.iterdir()] == ["work"]
    assert (elsewhere / "a.mp4.parts" / workfolder.STATE).is_file()
    (elsewhere / "of-the-user.txt").touch()
    assert engine.resume(tmp_path / "a.mp4", work_folder=elsewhere).path == tmp_path / "a.mp4"
    assert [file.name for file in elsewhere.iterdir()] == ["of-the-user.txt"]


def test_what_is_kept_outlives_a_resumption_that_fails_at_once(request_, tmp_path, monkeypatch):
    expected = generate(request_, output=str(tmp_path / "straight.mp4")).frames_THWC
    with monkeypatch.context() as patched:
        patched.setattr(stream, "decode", lambda *_: (_ for _ in ()).throw(NumericsError("spoilt")))
        with pytest.raises(NumericsError):
            generate(request_)
        patched.setattr(stream, "WORTH_KEEPING_SECONDS", 1e9)  # that run itself did nothing worth keeping
        with pytest.raises(NumericsError) as caught:
            path.resume(tmp_path / "a.mp4")
    assert any("sorano resume" in note for note in caught.value.__notes__)
    assert np.array_equal(path.resume(tmp_path / "a.mp4").frames_THWC, expected)


def test_the_longest_name_has_room_for_what_is_kept(tmp_path):
    names = ["b" * 251 + ".mp4", "b" * 250 + "c.mp4", "夜" * 83 + ".mp4"]
    folders = [workfolder.parts_of(tmp_path / name) for name in names]
    for folder in folders:
        folder.mkdir()
    assert len(set(folders)) == 3 and all(folder.name.endswith(".parts") for folder in folders)
    assert workfolder.parts_of(tmp_path / "a.mp4").name == "a.mp4.parts"
