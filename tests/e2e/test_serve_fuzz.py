"""The API fuzzed with schemathesis from its own description: whatever is sent, no answer is a 5xx."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.serving import Process

PROGRAM = Path(sys.prefix) / "clients" / "fuzz" / "bin" / "schemathesis"  # made by scripts/setup


@pytest.mark.full
def test_no_request_makes_the_server_fail(tmp_path):
    if not PROGRAM.exists():
        pytest.skip(f"schemathesis could not be installed in {PROGRAM.parents[1]}")
    with Process("serve", "--port", "0", "--max-queued", "100000", folder=tmp_path) as server:
        address = server.wait_for_address()
        words = ["--checks", "not_a_server_error", "--max-examples", "30", "--seed", "16"]
        words += ["--phases", "examples,fuzzing", "--exclude-path-regex", "events$|readyz"]
        words += ["--request-timeout", "60", "--no-color"]
        done = subprocess.run(
            [PROGRAM, "run", f"{address}/openapi.json", "--url", address, *words],
            capture_output=True, text=True, timeout=900, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
        assert int(re.search(r"(\d+) generated", done.stdout)[1]) > 100, done.stdout[-2000:]
        assert '"event": "traceback"' not in server.logged()
