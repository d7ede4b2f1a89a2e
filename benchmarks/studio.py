"""How soon the studio is there: first paint, the prompt, and what is sent, in Chromium with nothing cached.

    python benchmarks/studio.py [--visits 7] [--videos 40]

Server, worker and browser share this machine's cores. The gallery holds so many finished jobs of a maker of fixed cost.
The last line is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]
FIRST = """performance.getEntriesByName('first-contentful-paint')[0]?.startTime"""
SENT = """performance.getEntriesByType('resource').filter(one => /\\.(js|css)$/.test(one.name))
    .reduce((sum, one) => sum + one.encodedBodySize, 0)"""


def main() -> None:
    """Visits the page several times and prints medians."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--visits", type=int, default=7)
    parser.add_argument("--videos", type=int, default=40)
    given = parser.parse_args()
    from support import browser
    from support.serving import Process, call, wait_until

    with tempfile.TemporaryDirectory() as folder, browser.browser() as chrome:
        with Process("serve", "--port", "0", folder=folder) as server:
            address = server.wait_for_address()
            for number in range(given.videos):
                call(address, "/v1/videos", {"prompt": "a red ball bounces on the grass at sunset", "seed": number})
            wait_until(lambda: all(_statuses(call(address, "/v1/videos?limit=100")[1])), 300)
            visits = [_visit(chrome, address) for _ in range(given.visits)]
        version = chrome.version
    found = {name: round(statistics.median(one[name] for one in visits), 1) for name in visits[0]}
    machine = {"cores": os.cpu_count(), "load": os.getloadavg()[0], "machine": platform.machine(), "chromium": version}
    for name, value in found.items():
        print(f"{name:24} {value:g}")
    print(json.dumps({"visits": given.visits, "videos": given.videos, **found, **machine}))


def _statuses(page: dict[str, Any]) -> list[bool]:
    return [one["status"] == "completed" for one in page["data"]]


def _visit(chrome: Any, address: str) -> dict[str, float]:
    context = chrome.new_context(viewport={"width": 1280, "height": 860})
    page = context.new_page()
    page.goto(address)
    page.locator("textarea").first.wait_for()
    ready = page.evaluate("performance.now()")
    page.locator("sorano-card").first.wait_for()
    cards = page.evaluate("performance.now()")
    found = {
        "first paint, ms": page.evaluate(FIRST),
        "prompt there, ms": ready,
        "cards there, ms": cards,
        "scripts and styles, bytes": page.evaluate(SENT),
    }
    context.close()
    return found


if __name__ == "__main__":
    main()
