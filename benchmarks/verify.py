"""What `sorano verify` takes: a signed file, a copy of it that the store knows, and an unmarked file.

    python benchmarks/verify.py [--runs 5] [--against FOLDER]

Clips of 10 s, 960x540, 24 frames a second, H.264 with sound. Prints wall seconds, processor seconds (the command and
its child) and the child's peak memory, the least and the median of the runs, and one JSON line. `--against` names
another checkout, whose command takes turns with this one's: on machines that are shared, ratios count. Byte code is
kept, as by an installed package, and a first call of each is not counted. The bar is 1.5 s by the clock and 300 MB on
two idle cores.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]
FILES = ("signed", "copy", "unmarked")
MEASURED = """
import json, resource, sys
from sorano.cli import main
sys.argv = ["sorano", "verify", "--json", sys.argv[1]]
try:
    main()
except SystemExit:
    pass
own, child = (resource.getrusage(one) for one in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
print(json.dumps([own.ru_utime + own.ru_stime + child.ru_utime + child.ru_stime, child.ru_maxrss / 1024]))
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--against", type=Path)
    options = parser.parse_args()
    trees = {"here": ROOT, **({"against": options.against} if options.against else {})}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SORANO_CONFIG"], os.environ["SORANO_STORE"] = f"{folder}/config", f"{folder}/store"
        os.environ["SORANO_LOOK_SECONDS"] = "120"
        make(Path(folder))
        rows = {(file, tree): [] for file in FILES for tree in trees}
        for tree in trees.values():  # what Python compiles is kept, as it is of an installed package
            measure(Path(folder) / "signed.mp4", tree)
        for _ in range(options.runs):
            for file, tree in rows:
                rows[file, tree].append(measure(Path(folder) / f"{file}.mp4", trees[tree]))
    print(f"{'file':<10}{'tree':<9}{'wall s':>14}{'processor s':>16}{'peak MB':>10}  verdict")
    report = {}
    for (file, tree), runs in rows.items():
        wall, spent, peak = zip(*(run[:3] for run in runs), strict=True)
        least, middle = [min(wall), min(spent)], [statistics.median(wall), statistics.median(spent)]
        told = f"{least[0]:.2f} {middle[0]:.2f}", f"{least[1]:.2f} {middle[1]:.2f}"
        print(f"{file:<10}{tree:<9}{told[0]:>14}{told[1]:>16}{max(peak):>10.0f}  {runs[0][3]}")
        report[f"{file} {tree}"] = {"wall": least[0], "cpu": least[1], "peak_mb": round(max(peak))}
    print(json.dumps({"benchmark": "verify", "runs": options.runs, **report}))


def make(folder):
    """The three files."""
    from attacks.tools import Track, encode, frames_of, sound_of, voice
    from support import footage

    from sorano.trust import record

    sound = voice(10.0, 1)
    source = encode(folder / "unmarked.mp4", footage.clip("speaker", 540, 960, 240, 1), sound=sound)
    signed = record.mark_file(source, folder / "signed.mp4").path
    encode(folder / "copy.mp4", Track(frames_of(signed), crf=28), sound=sound_of(signed)[: len(sound)])


def measure(path, tree):
    """Wall and processor seconds, MB and verdict of one call of the command."""
    words = {**os.environ, "PYTHONPATH": str(tree / "src")}
    words.pop("PYTHONDONTWRITEBYTECODE", None)
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", MEASURED, str(path)], env=words, capture_output=True, text=True)
    wall = time.perf_counter() - began
    *shown, measured = done.stdout.splitlines()
    spent, peak = json.loads(measured)
    return wall, spent, peak, json.loads("\n".join(shown))["verdict"]


if __name__ == "__main__":
    main()
