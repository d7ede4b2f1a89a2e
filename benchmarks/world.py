"""Clips per second of the world: with and without anti-aliasing, on one thread and on all cores.

    python benchmarks/world.py [--clips 60]

Prints a table and, last, one line of JSON. Medians of three rounds; compiling and drawing the first clip are left out.
Drawing, simulating, rendering and captioning are all counted.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from functools import partial

from sorano.world.dataset import samples
from sorano.world.scene import WORLDS

ROUNDS = 3


def rate(render: Callable[[range], object], clips: int) -> float:
    """Median clips per second; every round renders other seeds."""
    speeds = []
    for number in range(ROUNDS):
        seeds = range(number * clips, (number + 1) * clips)
        began = time.perf_counter()
        render(seeds)
        speeds.append(clips / (time.perf_counter() - began))
    return statistics.median(speeds)


def main() -> None:
    parser = argparse.ArgumentParser(description="Clips per second of the procedural world.")
    parser.add_argument("--clips", type=int, default=60, help="clips a round")
    parser.add_argument("--size", type=int, default=64, help="height and width in pixels")
    parser.add_argument("--num-frames", type=int, default=17)
    arguments = parser.parse_args()
    shape = {"height": arguments.size, "width": arguments.size, "num_frames": arguments.num_frames}
    cores = os.cpu_count() or 1
    rows = []
    for world in WORLDS:
        for antialias in (0, 1):
            settings = {"world": world, "antialias": antialias, **shape}
            samples("train", range(2), **settings)  # compile
            for threads in sorted({1, cores}):
                speed = rate(partial(samples, "train", workers=threads, **settings), arguments.clips)
                rows.append((world, bool(antialias), f"compiled, {threads} threads", speed))
    size, load = f"{arguments.size}x{arguments.size}", os.getloadavg()[0]
    print(f"{arguments.num_frames} frames of {size}, {cores} cores, load {load:.1f} when it ended")
    print(f"{'world':6} {'anti-aliased':13} {'how':22} {'clips/s':>8}")
    for world, smooth, how, speed in rows:
        print(f"{world:6} {'yes' if smooth else 'no':13} {how:22} {speed:8.1f}")
    names = ("world", "antialias", "how", "clips_per_second")
    print(json.dumps({"benchmark": "world", **shape, "rows": [dict(zip(names, row, strict=True)) for row in rows]}))


if __name__ == "__main__":
    main()
