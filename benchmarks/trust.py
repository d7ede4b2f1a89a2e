"""What marking, labelling, signing and confirming cost beside the generation that they are part of.

    python benchmarks/trust.py [--runs 5]

Prints a table and one JSON line. The bar is 15 % of a generation with the embedded model, warm. Machines are shared, so
shares within one run count, not seconds.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

STEPS = {"mark, fingerprint": "__call__", "label, sign": "finish", "confirm": "confirm", "remember": "remember"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SORANO_CONFIG"], os.environ["SORANO_STORE"] = f"{folder}/config", f"{folder}/store"
        report = measure(runs, Path(folder))
    for name, seconds in report["seconds"].items():
        print(f"{name:<18} {seconds * 1000:8.1f} ms  {seconds / report['generate_seconds']:7.1%}")
    print(f"{'all of trust':<18} {report['trust_seconds'] * 1000:8.1f} ms  {report['share']:7.1%} (bar: 15 %)")
    print(json.dumps(report))


def measure(runs, folder):
    import sorano
    from sorano.trust import release
    from sorano.trust.seal import Outgoing

    spent = dict.fromkeys(STEPS, 0.0)

    def timed(module, name, step):
        real = getattr(module, name)

        def call(*args, **kwargs):
            began = time.perf_counter()
            try:
                return real(*args, **kwargs)
            finally:
                spent[step] += time.perf_counter() - began

        setattr(module, name, call)

    for step, name in STEPS.items():
        timed(Outgoing if name == "__call__" else release, name, step)
    rows, totals = [], []
    for run in range(runs + 1):
        spent.update(dict.fromkeys(STEPS, 0.0))
        began = time.perf_counter()
        sorano.generate("a red ball bounces on the grass at sunset", seed=run, output=folder / f"{run}.mp4")
        if run:  # the first one loads
            totals.append(time.perf_counter() - began)
            rows.append(dict(spent))
    medians = {step: statistics.median(row[step] for row in rows) for step in STEPS}
    share = statistics.median(sum(row.values()) / total for row, total in zip(rows, totals, strict=True))
    return {
        "benchmark": "trust",
        "runs": runs,
        "seconds": {step: round(value, 5) for step, value in medians.items()},
        "trust_seconds": round(sum(medians.values()), 5),
        "generate_seconds": round(statistics.median(totals), 4),
        "share": round(share, 4),
    }


if __name__ == "__main__":
    main()
