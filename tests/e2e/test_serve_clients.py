"""Programs of others against a server: the real OpenAI clients, each in an environment of its own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.serving import Process, free_port

CLIENTS = Path(sys.prefix) / "clients"  # made by scripts/setup
SUPPORT = Path(__file__).parents[1] / "support"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server with the embedded model that needs keys; its address and a key."""
    folder = tmp_path_factory.mktemp("clients")
    port = free_port()
    words = ["serve", "keys", "create", "tests", "--data", str(folder)]
    made = subprocess.run([sys.executable, "-m", "sorano", *words], capture_output=True, text=True, check=True)
    key = made.stdout.strip()
    allowed = ["--allow-webhook", f"127.0.0.1:{port}"]
    with Process("serve", "--port", "0", *allowed, folder=folder, maker=None) as process:
        yield process.wait_for_address(), key, port, process
        assert process.stop() == 0
        assert "Traceback" not in process.logged() and key not in process.logged()


def run(command, process):
    quiet = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=quiet)
    assert done.stdout.strip().endswith("ok"), f"{done.stdout}\n{done.stderr}\n{process.logged()[-3000:]}"


@pytest.mark.parametrize("version", ["2.20.0", "3.54.0"])
def test_openai_for_python(server, version):
    python = CLIENTS / version / "bin" / "python"
    if not python.exists():
        pytest.skip(f"openai {version} could not be installed in {python.parents[1]}")
    address, key, port, process = server
    run([python, SUPPORT / "openai_client.py", f"{address}/v1", key, str(port)], process)


def test_openai_for_javascript(server):
    modules = CLIENTS / "js" / "node_modules"
    if not (modules / "openai").is_dir() or shutil.which("node") is None:
        pytest.skip(f"node is not here, or openai could not be installed in {modules}")
    address, key, _, process = server
    run(["node", SUPPORT / "openai_client.mjs", f"{address}/v1", key, modules], process)


@pytest.mark.full
def test_litellm(server):
    python = CLIENTS / "litellm" / "bin" / "python"
    if not python.exists():
        pytest.skip(f"litellm could not be installed in {python.parents[1]}")
    address, key, _, process = server
    run([python, SUPPORT / "litellm_client.py", f"{address}/v1", key], process)
