"""Planned against measured on this machine: a table, and one JSON line.

    python benchmarks/plan.py [--repeats 3] [--device cpu]

The machine is calibrated first, into a cache of its own; then every prediction is written down before anything is
measured; then each video is made in a process of its own, as the command makes it. Videos differ from those that the
calibration made in size, length and steps.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

VIDEOS = (("32x32", 1.42, 24), ("64x64", 1.42, 24), ("64x64", 2.08, 40), ("96x96", 1.42, 24), ("128x128", 2.08, 12))
MAKE = """
import json, sys
import PIL.Image, av, huggingface_hub, numpy, safetensors, tokenizers, torch
import sorano.device, sorano.engine
import sorano.models.wan.text_encoder, sorano.models.wan.transformer, sorano.models.wan.vae
from sorano.models.runtime import keep_freed_memory
keep_freed_memory()
own = next(1024 * int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS"))
size, seconds, steps, device, output = sys.argv[1:]
video = sorano.generate("a red ball bounces on the grass at sunset", seed=1, size=size, seconds=float(seconds),
                        num_steps=int(steps), device=device, output=output)
print(json.dumps({"own": own, **video.record}))
"""


def planned(device: str) -> list[tuple[float, int]]:
    """Seconds of text, denoise and decode, and bytes, of each video: before it is made."""
    from sorano.device import choose_machine
    from sorano.plan import estimate_generate
    from sorano.presets import find_preset
    from sorano.request import Request
    from sorano.resolve import resolve

    preset, machine = find_preset("world"), choose_machine(device)
    configs = preset.read_configs()
    found = []
    for size, seconds, steps in VIDEOS:
        job = resolve(
            Request(prompt="a red ball", seed=1, size=size, seconds=seconds, num_steps=steps), preset, configs
        )
        height, width = job.shape.height, job.shape.width
        upscale = max(job.output_size) // max(height, width)
        estimate = estimate_generate(configs, machine, job.shape, num_steps=steps, fps=preset.fps, upscale=upscale)
        found.append((estimate.text_seconds + estimate.denoise_seconds + estimate.decode_seconds, estimate.peak_bytes))
    return found


def made(*words: str) -> tuple[float, int, int]:
    """Seconds of a video's stages, and bytes planned and measured beside those of the interpreter."""
    done = subprocess.run([sys.executable, "-c", MAKE, *words], capture_output=True, text=True, check=True)
    record = json.loads(done.stdout.splitlines()[-1])
    stages, own = record["measured"]["stages"], record["own"]
    seconds = stages["text"] + stages["denoise"] + stages["decode"]
    return seconds, record["planned"]["peak_bytes"] - own, record["measured"]["peak_bytes"] - own


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SORANO_CACHE"] = folder
        from sorano.calibrate import calibrate

        profile = calibrate(args.device)
        predictions = planned(args.device)
        for (size, seconds, steps), (time, peak) in zip(VIDEOS, predictions, strict=True):
            print(f"predicted: {size} {seconds} s {steps} steps: {time:.2f} s, {peak / 1e6:.0f} MB", flush=True)
        measured: list[list[tuple[float, int, int]]] = [[] for _ in VIDEOS]
        for turn in range(args.repeats):  # turn about: a slow moment of the machine is not one video's alone
            for number, (size, seconds, steps) in enumerate(VIDEOS):
                output = Path(folder) / f"{number}-{turn}.mp4"
                measured[number].append(made(size, str(seconds), str(steps), args.device, str(output)))
    rows: list[dict[str, Any]] = []
    for (size, seconds, steps), (time, _), turns in zip(VIDEOS, predictions, measured, strict=True):
        took, plans, peaks = (statistics.median(column) for column in zip(*turns, strict=True))
        rows.append(
            {
                "video": f"{size}, {seconds} s, {steps} steps",
                "planned_seconds": time,
                "seconds": took,
                "planned_bytes": plans,
                "bytes": peaks,
            }
        )
    print(f"profile: {profile}")
    print(f"{'':32}{'planned, s':>12}{'measured':>10}{'ratio':>7}{'planned, MB':>13}{'measured':>10}{'ratio':>7}")
    for row in rows:
        ratios = row["planned_seconds"] / row["seconds"], row["planned_bytes"] / row["bytes"]
        print(
            f"{row['video']:32}{row['planned_seconds']:12.2f}{row['seconds']:10.2f}{ratios[0]:7.2f}"
            f"{row['planned_bytes'] / 1e6:13.0f}{row['bytes'] / 1e6:10.0f}{ratios[1]:7.2f}"
        )
    print(json.dumps({"profile": vars(profile), "rows": rows}))


if __name__ == "__main__":
    main()
