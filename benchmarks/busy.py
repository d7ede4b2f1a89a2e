"""A warm clip on a quiet machine and beside one busy process, with OpenMP's default waiting and with Sorano's.

    python benchmarks/busy.py [--rounds 6]

Two loaded processes take turns: one as `import sorano` sets it, one with OpenMP's defaults (300,000 spins, all cores).
"quiet" means without the busy process that this benchmark starts; what else runs on the machine slows both alike, so
the ratios count, each of medians, and the least of each is printed beside them. A third process is started beside the
busy one, and so chooses its threads by the cores that are free then. Bars: at most 3 % lost quiet, at most 2.5 times
slower beside one busy process. Prints a table and one JSON line.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys

CHILD = """
import sys, time
import sorano
prompt, num_steps = "a red ball bounces on the grass at sunset", int(sys.argv[1])
def make():
    began = time.perf_counter()
    video = sorano.generate(prompt, seed=1, device="cpu", num_steps=num_steps)
    return time.perf_counter() - began, video.record["machine"]["threads"]
make()
print("ready", flush=True)
for _ in sys.stdin:
    print(*make(), flush=True)
"""
SETTINGS = ("OMP_", "GOMP_", "KMP_", "MKL_")
BUSY = "while True: pass"


class Maker:
    """A process with the model loaded that makes a clip whenever it is asked."""

    def __init__(self, num_steps, **extra):
        environment = {name: value for name, value in os.environ.items() if not name.startswith(SETTINGS)}
        self.process = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(num_steps)],
            env={**environment, **extra},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.threads = 0
        if self.process.stdout.readline().strip() != "ready":
            raise SystemExit("a process ended before it was ready")

    def seconds(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        seconds, threads = self.process.stdout.readline().split()
        self.threads = int(threads)
        return float(seconds)

    def close(self):
        self.process.kill()
        self.process.wait()


def measure(rounds, num_steps):
    """Seconds of each process, round by round, quiet and busy."""
    makers = {
        "OpenMP's defaults": Maker(num_steps, GOMP_SPINCOUNT="300000", OMP_NUM_THREADS=str(os.cpu_count())),
        "Sorano's": Maker(num_steps),
    }
    seconds = {}
    busy = None
    try:
        for _ in range(rounds):
            for name, maker in makers.items():
                seconds.setdefault(f"{name}, quiet", []).append(maker.seconds())
        busy = subprocess.Popen([sys.executable, "-c", BUSY])
        makers["Sorano's, started beside it"] = Maker(num_steps)
        for _ in range(rounds):
            for name, maker in makers.items():
                seconds.setdefault(f"{name}, busy", []).append(maker.seconds())
    finally:
        for process in (*(maker.process for maker in makers.values()), *([busy] if busy else [])):
            process.kill()
            process.wait()
    return seconds, {name: maker.threads for name, maker in makers.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--num-steps", type=int, default=24)
    arguments = parser.parse_args()
    seconds, threads = measure(arguments.rounds, arguments.num_steps)
    for name, values in seconds.items():
        print(f"{name:<36} median {statistics.median(values):6.2f} s   least {min(values):6.2f} s")
    middle = {name: statistics.median(values) for name, values in seconds.items()}
    quiet = middle["Sorano's, quiet"]
    document = {
        "lost quiet": round(quiet / middle["OpenMP's defaults, quiet"] - 1, 3),
        "slower busy": round(middle["Sorano's, busy"] / quiet, 2),
        "slower busy, started beside it": round(middle["Sorano's, started beside it, busy"] / quiet, 2),
        "slower busy, OpenMP's defaults": round(
            middle["OpenMP's defaults, busy"] / middle["OpenMP's defaults, quiet"], 2
        ),
        "load average before": os.getloadavg()[0],
        "threads": threads,
        "seconds": {name: [round(value, 3) for value in values] for name, values in seconds.items()},
    }
    print(json.dumps(document))


if __name__ == "__main__":
    main()
