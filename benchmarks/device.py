"""ONNX graphs beside PyTorch: how near, how good, how fast, how small; a table and one JSON line.

    python benchmarks/device.py [--clips 48] [--threads 1]

The same held-out captions, seeds, steps and guidance go to the engine's networks in float32, to float32 graphs and to
8-bit graphs in ONNX Runtime, one after the other. PSNR is that of frames against PyTorch's; the score is the share of
stated attributes that the world's evaluator reads from the clips (`sorano.world.score`), the mean over the fields.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from sorano.export.graphs import GRAPHS, export_onnx
from sorano.export.run import Runner
from sorano.models.registry import load
from sorano.presets import find_preset
from sorano.world.score import Sampler, fullest_caption, load_evaluator, score


def psnr(a, b):
    """PSNR in dB of each clip of two batches."""
    error = np.square(a.astype(np.float64) - b).mean(axis=(1, 2, 3, 4))
    return 10 * np.log10(255**2 / np.maximum(error, 1e-9))


def timed(make, captions):
    """Clips [N, T, H, W, C] of captions, each with its place as its seed, and the median seconds of one: by the clock,
    and of the processor, which counts on a machine that does other work."""
    clips, seconds = [], []
    for seed, caption in enumerate(captions):
        began = time.perf_counter(), time.process_time()
        clips.append(make(caption, seed))
        seconds.append((time.perf_counter() - began[0], time.process_time() - began[1]))
    return np.stack(clips), np.median(seconds, axis=0)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=48)
    parser.add_argument("--threads", type=int, default=1)
    words = parser.parse_args()
    torch.set_num_threads(words.threads)
    captions = [fullest_caption("heldout", seed) for seed in range(words.clips)]
    preset, evaluator = find_preset("world"), load_evaluator("cpu")
    bundle = load(preset.folder, device="cpu", dtype=torch.float32)
    sampler = Sampler(bundle, preset.num_steps, preset.guidance, size=128, num_frames=preset.num_frames)
    ways = {"PyTorch float32": (lambda caption, seed: sampler.generate([caption], [seed])[0], 0)}
    with tempfile.TemporaryDirectory() as folder:
        for precision in ("float32", "int8"):
            place = Path(folder) / precision
            export_onnx(preset, place, precision=precision)
            size = sum((place / f"{name}.onnx").stat().st_size for name in GRAPHS)
            runner = Runner(place, threads=words.threads)
            ways[f"ONNX {precision}"] = (
                lambda caption, seed, own=runner: own.generate(caption, seed=seed).frames_THWC,
                size,
            )
        rows, reference = [], None
        for name, (make, size) in ways.items():
            clips, seconds = timed(make, captions)
            reference = clips if reference is None else reference
            scores = score(clips, captions, evaluator=evaluator)
            near = psnr(clips, reference)
            rows.append(
                {
                    "way": name,
                    "megabytes": round(size / 1e6, 1),
                    "seconds": round(float(seconds[0]), 2),
                    "processor_seconds": round(float(seconds[1]), 2),
                    "psnr_mean": round(float(near.mean()), 1),
                    "psnr_least": round(float(near.min()), 1),
                    "score": round(100 * scores.mean_accuracy, 1),
                    "all_correct": round(100 * float(scores.all_correct), 1),
                }
            )
    names = list(rows[0])
    print(f"{names[0]:<16}", *(f"{name:>{len(name)}}" for name in names[1:]))
    for row in rows:
        print(f"{row['way']:<16}", *(f"{row[name]:>{len(name)}}" for name in names[1:]))
    print(json.dumps({"clips": words.clips, "threads": words.threads, "rows": rows}))


if __name__ == "__main__":
    main()
