"""kill -9 at random moments: no job is lost, none published twice, no file is left over, none says done without one."""

import os
import random
import time
from collections import Counter

import pytest
import sqlalchemy as sa
from support import serving
from support.counts import FULL
from support.serving import PROMPT, Process, add_endpoint, call, settings_of, wait_until

from sorano.files import sha256
from sorano.serve.database import audit, deliveries
from sorano.serve.sweep import Sweeper
from sorano.serve.worker import Service

KILLS = 200 if FULL else 10
ATTEMPTS = 1000
LEASE = ["--lease-seconds", "1.5", "--drain-seconds", "5", "--attempts", str(ATTEMPTS)]


class Cluster:
    """A server and two workers, each a process that can be killed and started again."""

    def __init__(self, folder, database, port, **environment):
        self.folder, self.database, self.port, self.environment = folder, database, port, environment
        self.running = {}
        for name in ("server", "worker-1", "worker-2"):
            self.start(name)

    @property
    def address(self):
        return f"http://127.0.0.1:{self.port}"

    def start(self, name):
        words = ["serve", "--port", str(self.port), "--workers", "0"] if name == "server" else ["worker"]
        self.running[name] = Process(
            *words, *LEASE, folder=self.folder, database=self.database, **self.environment
        )  # fmt: skip

    def kill(self, name):
        with self.running[name]:
            pass
        self.start(name)

    def close(self):
        for one in self.running.values():
            with one:
                pass


FILM_SECONDS = 20  # some times the seconds of work after which a run is kept, on any machine


def submit(cluster, number):
    """A job, asked for until the server says 200: only then must it never be lost."""
    body = {"prompt": PROMPT, "seed": number}
    while True:
        try:
            status, video = call(
                cluster.address, "/v1/videos", body, headers={"Idempotency-Key": f"k{number}"}, seconds=5
            )
        except OSError:
            time.sleep(0.05)
            continue
        if status == 200:
            return video["id"]
        assert status in (500, 503), video
        time.sleep(0.05)


def check_all(folder, database, ids):
    """What must hold once everything has ended."""
    service = Service.open(
        settings_of(folder, database, most_attempts=ATTEMPTS)
    )  # as the processes, which it sweeps for
    sweeper = Sweeper(service)

    def ended():
        sweeper.sweep_queue()
        counts = service.jobs.counts()
        rows, _ = service.jobs.page(None, after=None, limit=100_000, ascending=True)
        busy = [row for row in rows if row["variants"] in ("pending", "making")]
        return not counts.get("queued") and not counts.get("in_progress") and not busy

    wait_until(ended, 300, 0.2)
    sweeper.sweep_files()
    rows, _ = service.jobs.page(None, after=None, limit=100_000, ascending=True)
    assert sorted(row["id"] for row in rows) == sorted(ids)  # none lost, none made twice of one request
    expected = set()
    for row in rows:
        assert row["status"] == "completed", (row["error_code"], row["error_message"])
        for name, known in row["files"].items():
            path = service.store.video(row["id"], row["epoch"], name)
            assert path.is_file() and sha256(path) == known["sha256"], (row["id"], name)
            expected.add(path)
        assert len(row["files"]) == 3
    with service.database.read() as connection:
        query = sa.select(audit.c.subject).where(audit.c.action == "complete")
        assert set(Counter(connection.execute(query).scalars()).values()) == {1}
        query = sa.select(deliveries.c.body).where(deliveries.c.type == "video.completed")
        told = list(connection.execute(query).scalars())
        assert len(told) == len(ids)
    for top in (service.store.videos, service.store.work, service.store.uploads):
        assert {path for path in top.rglob("*") if path.is_file()} - expected == set()
    service.database.close()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"] if FULL else ["sqlite"])
def test_nothing_is_lost_when_processes_are_killed(tmp_path, kind, request):
    database = None if kind == "sqlite" else request.getfixturevalue("postgres_url")
    chance = random.Random(16)
    service = Service.open(settings_of(tmp_path, database))
    if not service.database.is_sqlite:
        serving.empty(database)
    add_endpoint(service)
    service.database.close()
    cluster = Cluster(tmp_path, database, serving.free_port(), FIXED_STEPS=4, FIXED_SECONDS=0.03)
    ids = []
    try:
        for _ in range(KILLS):
            for _ in range(chance.randint(1, 3)):
                ids.append(submit(cluster, len(ids)))
            time.sleep(chance.uniform(0.0, 0.4))
            cluster.kill(chance.choice(["server", "worker-1", "worker-1", "worker-2", "worker-2"]))
        check_all(tmp_path, database, ids)
    finally:
        cluster.close()


def test_the_engine_goes_on_from_its_work_folder_after_a_kill(tmp_path):
    """The embedded model makes a film; its worker is killed once something is kept, and another one goes on."""
    with Process("serve", "--port", "0", "--workers", "0", *LEASE, folder=tmp_path, maker=None) as server:
        address = server.wait_for_address()
        _, video = call(address, "/v1/videos", {"prompt": PROMPT, "seconds": FILM_SECONDS, "seed": 1})
        job = video["id"]
        kept = lambda: list((tmp_path / "work" / job).glob("*/video.mp4.parts/state.safetensors"))  # noqa: E731
        for _ in range(3 if FULL else 1):
            with Process("worker", *LEASE, folder=tmp_path, maker=None) as worker:
                wait_until(kept, 300)
                worker.kill()
        with Process("worker", *LEASE, folder=tmp_path, maker=None):
            video = wait_until(lambda: ended(address, job), 180)
        assert video["status"] == "completed", video
        assert video["attempts"] > 1 and any(note.startswith("goes on at") for note in video["notes"]), video["notes"]
        assert video["verdict"] == "VERIFIED" and abs(float(video["seconds"]) - FILM_SECONDS) < 0.5
        wait_until(lambda: os.listdir(tmp_path / "work") == [], 5)


def ended(address, job):
    _, video = call(address, f"/v1/videos/{job}")
    if video.get("status") == "completed" and len(video["variants"]) < 3:
        return None
    return video if video.get("status") in ("completed", "failed") else None
