"""A sentence becomes a confirmed file, with the model that the package carries."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import sorano
from sorano import video
from sorano.presets import PRESETS

PROMPT = "a red ball bounces on the grass at sunset"
WORLD = PRESETS["world"]
embedded = pytest.mark.skipif(not WORLD.folder.is_dir(), reason="this checkout carries no weights")


@embedded
def test_the_call_of_the_readme(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = sorano.generate(PROMPT, seed=0)
    clip = video.read_video(made.save("a.mp4"))
    assert (clip.codec, clip.pixel_format, clip.fps) == ("h264", "yuv420p", WORLD.fps)
    assert len(clip.frames_THWC) == WORLD.num_frames >= 17
    assert clip.frames_THWC.shape[1] >= 256
    assert clip.frames_THWC.std() > 10  # neither black nor flat
    assert np.abs(np.diff(clip.frames_THWC.astype(int), axis=0)).mean() > 0.3  # it moves


@embedded
def test_the_command_of_the_readme_works_from_any_folder(tmp_path):
    words = [sys.executable, "-m", "sorano", "generate", PROMPT, "--seed", "0"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert video.read_metadata(line)["preset"]["name"] == "world"
    assert done.stderr.startswith("world: ")


@embedded
def test_the_digests_of_the_embedded_model_are_pinned():
    pinned = WORLD.digests()
    files = {file.relative_to(WORLD.folder).as_posix() for file in WORLD.folder.rglob("*") if file.is_file()}
    weights = {name for name in files if name.endswith((".safetensors", ".json"))}
    assert weights - {"sorano.json"} <= set(pinned)  # the card changes no network
    assert sum((WORLD.folder / name).stat().st_size for name in files) <= 40e6


@embedded
def test_a_picture_begins_the_video(tmp_path):
    side = int(WORLD.size.split("x")[0])
    first = sorano.generate(PROMPT, seed=1, upscale=1).frames_THWC[0]
    Image.fromarray(first).save(tmp_path / "first.png")
    made = sorano.generate(PROMPT, seed=2, upscale=1, image=tmp_path / "first.png")
    assert made.frames_THWC.shape[1:3] == (side, side)
    error = np.abs(made.frames_THWC[0].astype(float) - first).mean()
    assert error < 16, f"the first frame is {error:.1f} levels away from the picture that was given"


@embedded
def test_sentences_make_different_videos():
    day, night = (
        sorano.generate(f"a red ball rolls left on the snow at {time}", seed=3, upscale=1) for time in ("noon", "night")
    )
    assert day.frames_THWC.mean() > night.frames_THWC.mean() + 10


def test_every_length_and_size_that_the_path_offers_reads_back(tiny_folder, tmp_path):
    for index, (size, seconds) in enumerate([("32x32", 0.1), ("48x32", 1.1), ("16x64", 3.0)]):
        made = sorano.generate(PROMPT, preset=str(tiny_folder), seed=1, size=size, seconds=seconds, upscale=1)
        clip = video.read_video(made.save(tmp_path / f"{index}.mp4"))
        assert clip.frames_THWC.shape == made.frames_THWC.shape
        assert len(clip.frames_THWC) % 4 == 1
