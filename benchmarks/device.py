"""Exported graphs beside PyTorch: how near, how good, how fast, how small; a table and one JSON line.

    python benchmarks/device.py [--clips 48] [--threads 1] [--ways onnx-float32 onnx-int8] [--folder FOLDER]

The same held-out captions, seeds, steps and guidance go to the engine's networks in float32, to float32 graphs and to
8-bit graphs in ONNX Runtime (`--ways executorch`: to programs in ExecuTorch), one after the other. What is found in
FOLDER is not exported again. Seconds of exporting, decoding and a step (both halves of its guidance) are of the
processor, in all threads. Latents and frames are compared with PyTorch's: the largest
difference of a number, and PSNR; the score is the share of stated attributes that the world's evaluator reads from the
clips (`sorano.world.score`), the mean over the fields.
"""

import argparse
import json
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch

from sorano.conditions.state import start_state, video_to_frames
from sorano.export.executorch import export_executorch
from sorano.export.graphs import CARD, GRAPHS, SUFFIXES, export_onnx
from sorano.export.run import GeneratedClip, Runner
from sorano.models.registry import load
from sorano.presets import find_preset
from sorano.sampling.denoise import denoise
from sorano.sampling.schedule import SCHEDULES, read_scheduler_config
from sorano.shapes import VideoShape, parse_size
from sorano.world.score import fullest_caption, load_evaluator, score

EXPORTS = {
    "onnx-float32": partial(export_onnx, precision="float32"),
    "onnx-int8": partial(export_onnx, precision="int8"),
    "executorch": export_executorch,
}


class Clock:
    """Processor seconds of a way's parts, summed over all clips."""

    def __init__(self):
        self.seconds = {"transformer": 0.0, "decoder": 0.0}

    def timed(self, part, call):
        """`call`, with its seconds added to a part."""

        def run(*given, **named):
            began = time.process_time()
            try:
                return call(*given, **named)
            finally:
                self.seconds[part] += time.process_time() - began

        return run


def psnr(a, b):
    """PSNR in dB of each clip of two batches."""
    error = np.square(a.astype(np.float64) - b).mean(axis=(1, 2, 3, 4))
    return 10 * np.log10(255**2 / np.maximum(error, 1e-9))


@torch.inference_mode()
def engine_clip(preset, bundle, caption, seed):
    """A clip of the engine's networks, in float32."""
    width, height = parse_size(preset.size)
    latent = bundle.geometry.latent(VideoShape(preset.num_frames, height, width))
    noise = start_state([seed], bundle.vae.config.z_dim, latent).noise_BCTHW
    text = bundle.text_encoder.encode(bundle.tokenizer.encode([caption, ""]))
    solver, shift = read_scheduler_config(bundle.scheduler_config)
    schedule = SCHEDULES[solver](preset.num_steps, shift)
    *_, last = denoise(
        bundle.transformer, noise, text[:1], schedule, negative_text=text[1:], guidance=preset.guidance
    )  # fmt: skip
    return GeneratedClip(last.latent[0].numpy(), video_to_frames(bundle.vae.decode(last.latent)))


def timed(make, captions):
    """Clips of captions, each with its place as its seed, and the median seconds of one: by the clock, and of the
    processor, which counts on a machine that does other work."""
    clips, seconds = [], []
    for seed, caption in enumerate(captions):
        began = time.perf_counter(), time.process_time()
        clips.append(make(caption, seed))
        seconds.append((time.perf_counter() - began[0], time.process_time() - began[1]))
    return clips, np.median(seconds, axis=0)


def exported(way, preset, folder):
    """Exports a preset into a folder, unless that was done before; returns the processor seconds that it took."""
    began = time.process_time()
    if not (folder / CARD).is_file():
        EXPORTS[way](preset, folder)
    return time.process_time() - began


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=48)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--ways", nargs="+", choices=EXPORTS, default=["onnx-float32", "onnx-int8"])
    parser.add_argument("--folder", type=Path, help="where the graphs are, or go; default: a temporary folder")
    words = parser.parse_args()
    torch.set_num_threads(words.threads)
    captions = [fullest_caption("heldout", seed) for seed in range(words.clips)]
    preset, evaluator = find_preset("world"), load_evaluator("cpu")
    bundle = load(preset.folder, device="cpu", dtype=torch.float32)
    size = sum(file.stat().st_size for file in preset.folder.rglob("*.safetensors"))
    clock = Clock()
    bundle.transformer.forward = clock.timed("transformer", bundle.transformer.forward)
    bundle.vae.decode = clock.timed("decoder", bundle.vae.decode)
    ways = {"PyTorch float32": (lambda caption, seed: engine_clip(preset, bundle, caption, seed), size, 0.0, clock)}
    with tempfile.TemporaryDirectory() as temporary:
        for way in words.ways:
            place, clock = (words.folder or Path(temporary)) / way, Clock()
            seconds = exported(way, preset, place)
            runner = Runner(place, threads=words.threads)
            size = sum((place / f"{name}{SUFFIXES[runner.card['runtime']]}").stat().st_size for name in GRAPHS)
            for part in clock.seconds:
                runner.sessions[part] = clock.timed(part, runner.sessions[part])
            ways[way] = (lambda caption, seed, own=runner: own.generate(caption, seed=seed), size, seconds, clock)
        rows, reference = [], None
        for name, (make, size, export_seconds, clock) in ways.items():
            clips, seconds = timed(make, captions)
            frames, latents = (
                np.stack([getattr(one, name) for one in clips]) for name in ("frames_THWC", "latent_CTHW")
            )
            reference = (frames, latents) if reference is None else reference
            scores = score(frames, captions, evaluator=evaluator)
            near = psnr(frames, reference[0])
            rows.append(
                {
                    "way": name,
                    "megabytes": round(size / 1e6, 1),
                    "export_seconds": round(export_seconds, 1),
                    "seconds": round(float(seconds[0]), 2),
                    "processor_seconds": round(float(seconds[1]), 2),
                    "step_ms": round(1000 * clock.seconds["transformer"] / len(clips) / preset.num_steps),
                    "decode_seconds": round(clock.seconds["decoder"] / len(clips), 2),
                    "largest_latent_difference": float(f"{np.abs(latents - reference[1]).max():.2g}"),
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
