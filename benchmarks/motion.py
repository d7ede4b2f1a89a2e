"""Whether second-order motion tells generated video from recorded video: tried for `verify --triage`, and left out.

    python benchmarks/motion.py [--clips 24] [--recorded FILE]...

After D3 (Zheng et al., ICCV 2025, arXiv:2508.00701): features of frames, the distances between those of neighbouring
frames, and the deviation of how these distances change; generated video is said to have less of it. There are no
pretrained features here: those are brightness in 32 x 18 cells. Generated: the embedded model's videos of held-out
captions. Against them: the rendered worlds of the same captions, clips of tests/support/corpus.py, and pieces of files
that a camera recorded. All have 25 frames, 12 frames a second, H.264 at CRF 23. AUC that the others have more, with
95 % intervals by bootstrap over clips (pieces of one file are no independent clips). Prints a table and one JSON line.
"""

import argparse
import json
import sys
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests"), str(ROOT / "benchmarks")]

import av  # noqa: E402
from support import copies, corpus  # noqa: E402
from triage import row  # noqa: E402

FRAMES, FPS = 25, 12
CELLS = (32, 18)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=24, help="that are generated, and of each other origin")
    parser.add_argument("--recorded", type=Path, action="append", default=[], help="a video of a camera")
    asked = parser.parse_args()
    generated, rendered = worlds(asked.clips)
    kinds = [kind for kind in corpus.KINDS if kind not in ("world", "cuts")]
    others = {
        "rendered worlds": rendered,
        "the corpus": [
            corpus.clip(kinds[number % len(kinds)], 1 + 2 * (number // len(kinds)), (144, 256), FRAMES / FPS, FPS)
            for number in range(asked.clips)
        ],
        **{path.stem: pieces(path) for path in asked.recorded},
    }
    low = [second_order(frames) for frames in generated]
    print("second-order motion: AUC that it is more than in generated video")
    rows = {name: row(name, [second_order(one) for one in clips], low) for name, clips in others.items()}
    print(json.dumps({"benchmark": "motion", "rows": rows}))


def second_order(frames):
    """The deviation of the changes of the distances between neighbouring frames [T, H, W, 3], in levels."""
    coded = copies.decoded(copies.encoded(frames, FPS, copies.h264(23)))
    cells = [cv2.resize(frame, CELLS, interpolation=cv2.INTER_AREA).mean(-1).ravel() for frame in coded]
    distances = np.sqrt((np.diff(np.array(cells, np.float32), axis=0) ** 2).mean(1))
    return float(np.diff(distances).std())


def worlds(count):
    """Videos of held-out captions by the embedded model, and what the world's renderer draws for these."""
    from sorano.engine import Engine
    from sorano.world.dataset import sample

    engine, generated, rendered = Engine(), [], []
    for seed in range(count):
        size = {"num_frames": FRAMES, "height": 128, "width": 128, "fps": float(FPS)}
        clip = sample("heldout", seed, world="core", **size)
        rendered.append(clip.frames_THWC)
        generated.append(engine.generate(clip.caption, seed=seed).frames_THWC)
    return generated, rendered


def pieces(path):
    """Pieces of a video, one after the other, at about `FPS`."""
    with av.open(str(path)) as container:
        rate = float(container.streams.video[0].average_rate)
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    frames = np.stack(frames[:: max(1, round(rate / FPS))])
    return [frames[first : first + FRAMES] for first in range(0, len(frames) - FRAMES + 1, FRAMES)]


if __name__ == "__main__":
    main()
