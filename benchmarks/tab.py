"""What a clip takes in a browser tab: seconds of each stage and the tab's own memory; a table and one JSON line.

    python benchmarks/tab.py [--clips 4] [--threads] [SITE...]

SITE is a folder that `sorano export web` wrote; several take turns, so that versions can be compared. Without one the
embedded model is exported. Chromium is headless. The first clip also loads the weights and is told apart. `--threads`
serves the page with the headers that let WebAssembly have more than one thread. The bar is 4 s a clip on two idle cores
and 500 MB.
"""

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
import threading
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]
from support.browser import browser, served  # noqa: E402

STAGES = ("load", "steps", "decode", "seal", "total")
ASK = """async (seed) => {
    window.measured ??= new Worker('worker.js', { type: 'module' });
    const request = { prompt: 'a red ball bounces on the grass', seed: String(seed), numSteps: STEPS, guidance: 4.5 };
    return new Promise((done) => {
        window.measured.onmessage = ({ data: { kind, seconds, total } }) => {
            if (kind !== 'progress') done({ ...seconds, total, kind });
        };
        window.measured.postMessage({ kind: 'create', request });
    });
}"""
APART = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sites", type=Path, nargs="*")
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--threads", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sites = options.sites or [exported(Path(folder) / "site")]
        code = ASK.replace("STEPS", str(options.steps))
        found = measured(sites, options.clips + 1, code, APART if options.threads else {})
    report = {}
    print(f"{'':<24}" + "".join(f"{stage + ', s':>10}" for stage in STAGES) + f"{'MB':>8}")
    for site, (clips, memory) in found.items():
        first, *rest = clips
        middle = {stage: statistics.median(clip[stage] for clip in rest) for stage in STAGES}
        for name, row in (("first", first), ("warm, median", middle)):
            print(
                f"{f'{site.name} {name}':<24}" + "".join(f"{row[stage]:>10.2f}" for stage in STAGES) + f"{memory:>8.0f}"
            )
        report[str(site)] = {"first": first, "warm": middle, "mb": round(memory)}
    print(json.dumps({"benchmark": "tab", "clips": options.clips, "threads": options.threads, **report}))


def exported(folder):
    """The page of the embedded model."""
    from sorano.export.site import export_web
    from sorano.presets import find_preset

    runtimes = Path(sys.prefix) / "npm"  # where scripts/setup puts them; else they are fetched
    export_web(find_preset("world"), folder, runtime=runtimes if runtimes.is_dir() else None)
    return folder


def measured(sites, count, code, headers):
    """Of each site the seconds of its clips, and the most private memory of its process."""
    with browser() as chrome, contextlib.ExitStack() as servers:
        pages = {site: opened(chrome, servers.enter_context(served(site, headers))) for site in sites}
        clips = {site: [] for site in sites}
        memory = dict.fromkeys(sites, 0.0)
        done = threading.Event()
        watch = threading.Thread(target=watched, args=(memory, done), daemon=True)
        watch.start()
        for number in range(count):
            for site, page in pages.items():
                clip = page.evaluate(code, number)
                if clip["kind"] != "made":
                    raise SystemExit(f"{site}: the page says {clip}")
                clips[site].append(clip)
        done.set()
        watch.join()
    return {site: (clips[site], memory[site]) for site in sites}


def opened(chrome, address):
    """A page of its own."""
    page = chrome.new_context(service_workers="block").new_page()
    page.goto(address)
    page.locator("html[data-ready]").wait_for(state="attached")
    return page


def watched(memory, done):
    """The most private memory of any tab's process, MB, until `done`; with one site it is that site's."""
    while not done.wait(0.05):
        most = max(map(private_megabytes, Path("/proc").glob("[0-9]*")), default=0.0)
        for site in memory:
            memory[site] = max(memory[site], most)


def private_megabytes(process):
    """Private memory of a renderer process; 0 for another."""
    try:
        if b"--type=renderer" not in (process / "cmdline").read_bytes():
            return 0.0
        lines = (process / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private")) / 1000


if __name__ == "__main__":
    main()
