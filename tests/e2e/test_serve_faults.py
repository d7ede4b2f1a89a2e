"""A worker whose connection to the database ends where its publication is committed: the video stays."""

import time
from contextlib import contextmanager, suppress

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError
from support.serving import PROMPT, add_endpoint, in_process

from sorano.files import sha256
from sorano.serve.database import deliveries
from sorano.serve.store import VIDEO
from sorano.serve.sweep import Sweeper


@contextmanager
def unheard_commit(database, away_seconds=0.0):
    """The commit after which a job is completed reaches the database, and its answer does not reach the worker;
    for `away_seconds` after it nothing else does either."""
    dialect = database.engine.dialect
    commit, begin = dialect.do_commit, dialect.do_begin
    struck = []

    def lose(connection):
        if not database.is_sqlite:
            connection.dbapi_connection.close()  # as when the server or the network goes: what comes next fails
        else:
            raise dialect.loaded_dbapi.OperationalError("the connection was lost")

    def do_commit(connection):
        commit(connection)
        if struck:
            return
        row = connection.execute("SELECT count(*) FROM jobs WHERE status = 'completed'").fetchone()
        commit(connection)  # PostgreSQL began a transaction for that
        if row[0]:
            struck.append(time.monotonic())
            lose(connection)
            connection.execute("SELECT 1")

    def do_begin(connection):
        if struck and time.monotonic() < struck[0] + away_seconds:
            lose(connection)
        begin(connection)

    dialect.do_commit, dialect.do_begin = do_commit, do_begin
    try:
        yield struck
    finally:
        del dialect.do_commit, dialect.do_begin


@pytest.mark.parametrize("away_seconds", [0.0, 0.5, 5.0])  # at once, within a lease, beyond it
def test_a_video_stays_whose_worker_does_not_hear_that_it_was_published(tmp_path, database_url, away_seconds):
    with in_process(tmp_path, database_url, lease_seconds=2.4) as (client, service, worker):
        add_endpoint(service)
        job_id = client.post("/v1/videos", json={"prompt": PROMPT}).json()["id"]
        with unheard_commit(service.database, away_seconds) as struck:
            with suppress(OperationalError):  # `Worker.run` waits for the database to come back
                worker.work_once()
            assert struck
            time.sleep(max(0.0, struck[0] + away_seconds - time.monotonic()))
        row = service.jobs.get(job_id, None)
        path = service.store.video(job_id, row["epoch"])
        assert row["status"] == "completed" and path.is_file() and sha256(path) == row["files"][VIDEO]["sha256"]
        with service.database.read() as connection:
            assert len(connection.execute(sa.select(deliveries.c.id)).all()) == 1
        Sweeper(service).sweep_files()
        assert client.get(f"/v1/videos/{job_id}/content").status_code == 200
        worker.work_once()  # makes the thumbnail in the folder of the run, which a sweep leaves alone until then
        Sweeper(service).sweep_files()
        assert client.get(f"/v1/videos/{job_id}/content").status_code == 200
        assert not service.store.work_folder(job_id, row["epoch"]).exists()


def test_a_video_stays_when_its_worker_fails_after_publishing_it(tmp_path, database_url, monkeypatch):
    with in_process(tmp_path, database_url) as (client, service, worker):
        job_id = client.post("/v1/videos", json={"prompt": PROMPT}).json()["id"]
        monkeypatch.setattr(worker, "_count", lambda *_: 1 / 0)
        worker.work_once()
        assert client.get(f"/v1/videos/{job_id}").json()["status"] == "completed"
        assert client.get(f"/v1/videos/{job_id}/content").status_code == 200


def test_what_a_cancelled_run_wrote_is_removed(tmp_path, database_url):
    with in_process(tmp_path, database_url) as (client, service, worker):
        job_id = client.post("/v1/videos", json={"prompt": PROMPT}).json()["id"]
        publish = service.store.publish

        def cancelled_then_published(*words):
            client.post(f"/v1/videos/{job_id}/cancel")
            return publish(*words)

        service.store.publish = cancelled_then_published
        worker.work_once()
        assert client.get(f"/v1/videos/{job_id}").json()["error"]["code"] == "cancelled"
        assert service.store.job_ids() == set()


def test_a_disk_that_is_full_before_a_run_begins_is_said_with_its_code(tmp_path, database_url, monkeypatch):
    with in_process(tmp_path, database_url) as (client, service, worker):
        job_id = client.post("/v1/videos", json={"prompt": PROMPT}).json()["id"]

        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(service.store, "take_over", full)
        assert worker.work_once()
        assert client.get(f"/v1/videos/{job_id}").json()["error"]["code"] == "storage_full"
