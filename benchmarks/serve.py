"""What the server itself costs: submissions, polls and listeners with an engine of fixed cost, and its share of a run.

    python benchmarks/serve.py [--jobs 2000] [--listeners 100] [--clips 5] [--database postgresql://...]

Server, worker and clients share this machine's cores. Beside it the same submissions go to an application that keeps
them in a dictionary, so that the price of durability is known. The last line is one JSON document.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ROOT = Path(__file__).parent.parent
PROMPT = "a red ball bounces on the grass at sunset"
STUB = """
import secrets, time, uvicorn
from fastapi import FastAPI, Request
app, held = FastAPI(), {}
@app.post("/v1/videos")
async def create(request: Request):
    body = await request.json()
    name = "video_" + secrets.token_hex(16)
    held[name] = {"id": name, "object": "video", "status": "queued", "created_at": int(time.time()), **body}
    return held[name]
uvicorn.run(app, port=PORT, log_level="error")
"""


class FixedMaker:
    """Makes nothing, in FIXED_SECONDS: what is left is the server."""

    loaded = "world"

    def machine(self) -> dict[str, Any]:
        from sorano.plan import Machine

        return asdict(Machine("cpu", "float32", 50e9, 8 << 30, "of the benchmark"))

    def make(self, words: dict[str, Any], folder: Path, listener: Any, cancel: Any) -> Any:
        from sorano.serve.maker import Made

        for step in range(4):
            time.sleep(float(os.environ.get("FIXED_SECONDS", "0.2")) / 4)
            cancel.check()
            listener.progress("denoise", step + 1, 4)
        path = folder / "video.mp4"
        path.write_bytes(b"0" * 50_000)
        return Made(path, {"size": "256x256", "num_frames": 17, "fps": 12.0, "seconds": 1.4}, {"seconds": 0.2})

    def variants(self, words: dict[str, Any], video: Path, folder: Path) -> dict[str, Path]:
        return {}


class Server:
    """`sorano serve` as a process."""

    def __init__(self, folder: Path, *words: str, database: str | None = None, **environment: str) -> None:
        paths = os.pathsep.join([str(ROOT / "src"), str(ROOT / "benchmarks")])
        command = [sys.executable, "-m", "sorano", "serve", "--port", "0", "--data", str(folder), *words]
        command += ["--database", database] if database else []
        self.log = open(folder / "log", "w")
        env = {**os.environ, "PYTHONPATH": paths, **environment}
        self.process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=self.log, text=True)
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip()

    def ready(self) -> None:
        while call(connection(self.address), "GET", "/readyz")[0] != 200:
            time.sleep(0.2)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)
        self.log.close()


def connection(address: str) -> http.client.HTTPConnection:
    parts = urlsplit(address)
    return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)


def call(to: http.client.HTTPConnection, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body)
    to.request(method, path, data, {"content-type": "application/json"} if data else {})
    answer = to.getresponse()
    return answer.status, json.loads(answer.read() or b"null")


def submissions(address: str, count: int, threads: int = 32) -> tuple[float, list[float], list[str]]:
    """Submissions a second over some connections, the milliseconds of each, and the ids."""
    spent: list[float] = []
    ids: list[str] = []
    numbers = iter(range(count))
    turn = threading.Lock()

    def client() -> None:
        to = connection(address)
        while True:
            with turn:
                number = next(numbers, None)
            if number is None:
                return
            began = time.perf_counter()
            status, video = call(to, "POST", "/v1/videos", {"prompt": PROMPT, "seed": number})
            assert status == 200, video
            spent.append(1000 * (time.perf_counter() - began))
            ids.append(video["id"])

    began = time.perf_counter()
    running = [threading.Thread(target=client) for _ in range(threads)]
    for one in running:
        one.start()
    for one in running:
        one.join()
    return count / (time.perf_counter() - began), spent, ids


def polls(address: str, ids: list[str], count: int, rate: float) -> list[float]:
    """The milliseconds of retrieving jobs at so many a second."""
    to, spent = connection(address), []
    began = time.perf_counter()
    for number in range(count):
        time.sleep(max(0.0, began + number / rate - time.perf_counter()))
        start = time.perf_counter()
        status, _ = call(to, "GET", f"/v1/videos/{ids[number * 7919 % len(ids)]}")
        assert status == 200
        spent.append(1000 * (time.perf_counter() - start))
    return spent


def listen(address: str, ids: list[str], got: list[int], stop: threading.Event) -> list[threading.Thread]:
    """A thread that listens to each job; `got` counts the events of each."""

    def one(number: int) -> None:
        to = connection(address)
        to.request("GET", f"/v1/videos/{ids[number]}/events")
        answer = to.getresponse()
        while not stop.is_set():
            line = answer.readline()
            if not line:
                return
            got[number] += line.startswith(b"event")

    running = [threading.Thread(target=one, args=(number,), daemon=True) for number in range(len(ids))]
    for thread in running:
        thread.start()
    return running


def share(values: list[float], part: float) -> float:
    """A percentile."""
    return sorted(values)[min(len(values) - 1, int(part * len(values)))]


def measure_server(jobs: int, listeners: int, database: str | None) -> dict[str, Any]:
    """The server with an engine of fixed cost."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["--maker", "serve:FixedMaker", "--max-queued", str(jobs + 100), "--drain-seconds", "2"]
        server = Server(Path(folder), *words, database=database, FIXED_SECONDS="0.2")
        try:
            server.ready()
            rate, spent, ids = submissions(server.address, jobs)
            got, stop = [0] * listeners, threading.Event()
            listen(server.address, ids[:listeners], got, stop)
            time.sleep(2)
            _, found = call(connection(server.address), "GET", "/v1/videos?limit=1&order=desc")
            waits = polls(server.address, ids, 1000, 50)
            heard = sum(count > 0 for count in got)
            stop.set()
            queued = found["data"][0]["queue_position"]
        finally:
            server.stop()
    return {
        "submissions_per_second": round(rate, 1), "submit_p50_ms": round(share(spent, 0.5), 1),
        "submit_p99_ms": round(share(spent, 0.99), 1), "queued": queued, "listeners_that_heard": heard,
        "retrieve_p50_ms": round(share(waits, 0.5), 2), "retrieve_p99_ms": round(share(waits, 0.99), 2),
    }  # fmt: skip


def measure_stub(jobs: int) -> dict[str, Any]:
    """The same submissions against a dictionary."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-c", STUB.replace("PORT", str(port))])
    try:
        address = f"http://127.0.0.1:{port}"
        for _ in range(100):
            try:
                call(connection(address), "POST", "/v1/videos", {"prompt": PROMPT})
                break
            except OSError:
                time.sleep(0.1)
        rate, spent, _ = submissions(address, jobs)
    finally:
        process.terminate()
        process.wait(10)
    return {"submissions_per_second": round(rate, 1), "submit_p99_ms": round(share(spent, 0.99), 1)}


def measure_overhead(clips: int) -> dict[str, Any]:
    """What the service adds to a clip of the embedded model: from the POST to the commit, less the engine's time."""
    import sqlalchemy as sa

    from sorano.serve.database import jobs as table
    from sorano.web.database import Database

    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder))
        try:
            server.ready()
            to = connection(server.address)
            for number in range(clips + 1):
                _, video = call(to, "POST", "/v1/videos", {"prompt": PROMPT, "seed": number})
                while video["status"] in ("queued", "in_progress") or "thumbnail" not in video["variants"]:
                    time.sleep(0.25)
                    _, video = call(to, "GET", f"/v1/videos/{video['id']}")
        finally:
            server.stop()
        database = Database(f"sqlite:///{folder}/jobs.sqlite3")
        with database.read() as connected:
            rows = list(connected.execute(sa.select(table).order_by(table.c.seq)).mappings())[1:]  # the first one loads
        database.close()
    engine = [row["result"]["wall_seconds"] for row in rows]
    whole = [row["completed_at"] - row["created_at"] for row in rows]
    added = [100 * (b - a) / a for a, b in zip(engine, whole, strict=True)]
    return {
        "engine_seconds": round(statistics.median(engine), 3), "service_seconds": round(statistics.median(whole), 3),
        "overhead_percent": round(statistics.median(added), 2),
    }  # fmt: skip


def main() -> None:
    """Prints a line for each measurement, and one JSON document."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--listeners", type=int, default=100)
    parser.add_argument("--clips", type=int, default=5)
    parser.add_argument("--database")
    given = parser.parse_args()
    load = os.getloadavg()
    document: dict[str, Any] = {
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "load_before": [round(one, 1) for one in load],
        "server": measure_server(given.jobs, given.listeners, given.database),
        "stub": measure_stub(given.jobs),
    }
    if given.clips:
        document["overhead"] = measure_overhead(given.clips)
    document["load_after"] = [round(one, 1) for one in os.getloadavg()]
    for name, value in document.items():
        print(f"{name:<12} {value}", file=sys.stderr)
    print(json.dumps(document))


if __name__ == "__main__":
    main()
