"""Draws the pictures of the documents: `python docs/sheets.py world | samples | verbs | marks`.

`world` renders scenes of the procedural world; `samples` asks the embedded model for one video a prompt, with seeds
0, 1, 2 ..., and keeps whatever comes. `verbs` runs every line of docs/verbs.md, in order, and draws a strip of the file
that it wrote. `marks` shows parts of the first frames of six kinds at 200 %: as they were, marked, and eight times the
difference.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from sorano.train.recipes import SHEET_PROMPTS

DOCS = Path(__file__).parent


def world(columns: int = 8, rows: int = 4, size: int = 128) -> np.ndarray:
    """One frame each of clips of both worlds, at twice the size that the small model learns from."""
    from sorano.world.dataset import sample

    tiles = []
    for index in range(columns * rows):
        name = "core" if index < columns else "full"
        clip = sample("heldout", index, world=name, num_frames=17, height=size, width=size)
        tiles.append(clip.frames_THWC[8])
    return np.concatenate([np.concatenate(tiles[r * columns : (r + 1) * columns], 1) for r in range(rows)])


def samples(columns: int = 6, shown: int = 128) -> np.ndarray:
    """Evenly spaced frames of one video for each prompt, enlarged without smoothing."""
    import sorano

    rows = []
    for seed, prompt in enumerate(SHEET_PROMPTS):
        frames = sorano.generate(prompt, seed=seed, upscale="none").frames_THWC
        picked = frames[np.linspace(0, len(frames) - 1, columns).round().astype(int)]
        rows.append(
            np.concatenate(list(picked), axis=1).repeat(shown // frames.shape[1], 0).repeat(shown // frames.shape[1], 1)
        )
    half = len(rows) // 2
    gap = np.full((rows[0].shape[0] * half, 8, 3), 255, np.uint8)
    return np.concatenate([np.concatenate(rows[:half]), gap, np.concatenate(rows[half:])], axis=1)


def marks(height: int = 72, width: int = 112, scale: int = 2) -> np.ndarray:
    """A clip of the embedded model and five kinds of the tests' footage: what is seen of the mark."""
    sys.path.insert(0, str(DOCS.parent / "tests"))
    from support import footage

    import sorano
    from sorano.trust.watermark.embed import mark_frames
    from sorano.trust.watermark.payload import Payload

    made = sorano.generate(SHEET_PROMPTS[0], seed=0)
    clips = [(made.frames_THWC, made.fps, 0.1, 0.1)]
    places = {"speaker": (0.35, 0.4), "landscape": (0.25, 0.3), "street": (0.3, 0.3), "handheld": (0.4, 0.4)}
    for kind, (top, left) in (places | {"leaves": (0.4, 0.4)}).items():
        clips.append((footage.clip(kind, 540, 960, 2), 24.0, top, left))
    rows = []
    for number, (frames, fps, top, left) in enumerate(clips):
        marked = mark_frames(frames, Payload(1, "made", number), fps=fps)
        y, x = int(top * frames.shape[1]), int(left * frames.shape[2])
        before, after = (clip[0, y : y + height, x : x + width] for clip in (frames, marked))
        change = np.clip(128 + 8 * (after.astype(int) - before), 0, 255).astype(np.uint8)
        rows.append(np.concatenate([before, after, change], 1).repeat(scale, 0).repeat(scale, 1))
    return np.concatenate([np.concatenate(rows[:3]), np.concatenate(rows[3:])], 1)


def lines() -> list[str]:
    """The commands of docs/verbs.md, in order."""
    text = (DOCS / "verbs.md").read_text(encoding="utf-8")
    return [line.strip() for line in text.splitlines() if line.startswith("    sorano ")]


def board() -> str:
    """The storyboard of docs/verbs.md."""
    text = (DOCS / "verbs.md").read_text(encoding="utf-8")
    return text.split("```toml\n")[1].split("```")[0]


def verbs(columns: int = 10, side: int = 88) -> None:
    """One strip for each line of docs/verbs.md."""
    import os
    import shlex
    import tempfile

    from typer.testing import CliRunner

    from sorano import cli
    from sorano.video import read_image, read_video, resize

    (DOCS / "verbs").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Path("board.toml").write_text(board(), encoding="utf-8")
        for line in lines():
            done = CliRunner().invoke(cli.app, shlex.split(line)[1:])
            assert done.exit_code == 0, done.output
            made = Path(done.stdout.split()[0])
            frames = read_image(made)[None] if made.suffix == ".png" else read_video(made).frames_THWC
            picked = frames[np.linspace(0, len(frames) - 1, min(columns, len(frames))).round().astype(int)]
            strip = np.concatenate(list(resize(picked, side, side)), axis=1)
            Image.fromarray(strip).save(DOCS / "verbs" / f"{made.stem}.jpg", quality=88)


if __name__ == "__main__":
    for name in sys.argv[1:] or ["world", "samples", "verbs", "marks"]:
        if name == "verbs":
            verbs()
            continue
        Image.fromarray({"world": world, "samples": samples, "marks": marks}[name]()).save(
            DOCS / f"{name}.png", optimize=True
        )
