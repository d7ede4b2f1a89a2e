"""Servers and workers as processes: they drain, they outlive each other, and the command line sees their queue."""

import json
import os
import signal
import urllib.request

import pytest
from support import serving
from support.serving import PROMPT, Process, call, in_process, wait_until
from typer.testing import CliRunner

from sorano import cli
from sorano.serve import server

SLOW = {"FIXED_STEPS": 400, "FIXED_SECONDS": 0.05}


def state(address, job):
    return call(address, f"/v1/videos/{job}")[1]


def test_a_server_that_is_told_to_stop_gives_its_job_back_and_goes_on_later(tmp_path):
    words = ["serve", "--port", "0", "--drain-seconds", "0.2"]
    with Process(*words, folder=tmp_path, **SLOW) as server:
        address = server.wait_for_address()
        job = call(address, "/v1/videos", {"prompt": PROMPT})[1]["id"]
        wait_until(lambda: (state(address, job)["step"] or 0) > 2)
        with urllib.request.urlopen(f"{address}/v1/videos/{job}/events", timeout=20) as listener:
            assert server.stop() == 0
            assert listener.read().startswith(b"id: 1")  # the stream ends, and is not broken off
        assert "Traceback" not in server.logged()
    runner = CliRunner()
    listed = runner.invoke(cli.app, ["ps", "--json", "--data", str(tmp_path)])
    (found,) = json.loads(listed.stdout)["videos"]
    assert found["id"] == job and found["status"] == "queued" and found["attempts"] == 0
    with Process(*words, folder=tmp_path, FIXED_STEPS=6, FIXED_SECONDS=0.01) as server:
        address = server.wait_for_address()
        video = wait_until(lambda: state(address, job)["status"] == "completed" and state(address, job))
        assert video["attempts"] == 1
        assert server.stop() == 0


@pytest.mark.parametrize("whole_group", [False, True])  # as `kill` does, and as a terminal and systemd do
def test_a_server_that_is_told_to_stop_lets_its_worker_finish(tmp_path, whole_group):
    words = ["serve", "--port", "0", "--drain-seconds", "300"]
    with Process(*words, folder=tmp_path, FIXED_STEPS=60, FIXED_SECONDS=0.05) as server:
        address = server.wait_for_address()
        job = call(address, "/v1/videos", {"prompt": PROMPT})[1]["id"]
        wait_until(lambda: state(address, job)["step"])
        if whole_group:
            os.killpg(server.process.pid, signal.SIGTERM)
            server.process.wait(300)
        assert server.stop(300) == 0
    with in_process(tmp_path) as (client, _, _):
        found = client.get(f"/v1/videos/{job}").json()
        assert found["status"] == "completed" and found["attempts"] == 1


def test_a_second_signal_gives_the_job_back_at_once(tmp_path):
    with Process("serve", "--port", "0", "--drain-seconds", "300", folder=tmp_path, **SLOW) as server:
        address = server.wait_for_address()
        job = call(address, "/v1/videos", {"prompt": PROMPT})[1]["id"]
        wait_until(lambda: state(address, job)["step"])
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: '"draining"' in workers_of(tmp_path))
        assert server.stop(60) == 0
    with in_process(tmp_path) as (client, _, _):
        assert client.get(f"/v1/videos/{job}").json()["status"] == "queued"


def workers_of(folder):
    """The table of workers as text, though no server answers any more."""
    import sqlite3

    connection = sqlite3.connect(folder / "jobs.sqlite3", timeout=30)
    try:
        return json.dumps(connection.execute("SELECT state FROM workers").fetchall())
    finally:
        connection.close()


def test_a_worker_whose_server_is_killed_finishes_its_job_and_ends(tmp_path):
    with Process("serve", "--port", "0", folder=tmp_path, FIXED_STEPS=40, FIXED_SECONDS=0.05) as server:
        address = server.wait_for_address()
        job = call(address, "/v1/videos", {"prompt": PROMPT})[1]["id"]
        wait_until(lambda: state(address, job)["step"])
        (worker,) = [one for one in call(address, "/v1/workers")[1]["data"]]
        server.kill(whole_group=False)
        wait_until(lambda: not is_running(worker["pid"]))
    with in_process(tmp_path) as (client, _, _):
        assert client.get(f"/v1/videos/{job}").json()["status"] == "completed"


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as status:
        return status.read().rsplit(")", 1)[1].split()[0] != "Z"


def test_a_worker_that_dies_is_started_again(tmp_path):
    with Process("serve", "--port", "0", folder=tmp_path) as server:
        address = server.wait_for_address()
        first = wait_until(lambda: call(address, "/v1/workers")[1]["data"])[0]["pid"]
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: [one for one in call(address, "/v1/workers")[1]["data"] if one["pid"] != first])
        job = call(address, "/v1/videos", {"prompt": PROMPT})[1]["id"]
        wait_until(lambda: state(address, job)["status"] == "completed")


def test_two_servers_share_one_queue_on_postgresql(tmp_path, postgres_url):
    if postgres_url is None:
        pytest.skip("neither pgserver nor Debian's postgresql is here")
    with (
        in_process(tmp_path, postgres_url) as (one, _, worker),
        in_process(tmp_path, postgres_url) as (two, _, _),
    ):
        job = one.post("/v1/videos", json={"prompt": PROMPT}, headers={"Idempotency-Key": "shared"}).json()["id"]
        same = two.post("/v1/videos", json={"prompt": PROMPT}, headers={"Idempotency-Key": "shared"}).json()
        assert same["id"] == job and two.get(f"/v1/videos/{job}").json()["status"] == "queued"
        while worker.work_once():
            pass
        assert two.get(f"/v1/videos/{job}").json()["status"] == "completed"
        assert two.get(f"/v1/videos/{job}/content").content == one.get(f"/v1/videos/{job}/content").content
        assert two.get("/metrics").text.count("sorano_jobs{") >= 1
        two.delete(f"/v1/videos/{job}")
        assert one.get(f"/v1/videos/{job}").status_code == 404


def test_the_command_line_lists_cancels_and_deletes(tmp_path):
    runner = CliRunner()
    where = ["--data", str(tmp_path)]
    with in_process(tmp_path) as (client, _, _):
        job = client.post("/v1/videos", json={"prompt": PROMPT}).json()["id"]
    assert job in runner.invoke(cli.app, ["ps", *where]).stdout
    assert runner.invoke(cli.app, ["cancel", job, *where]).stdout.strip() == job
    assert "failed" in runner.invoke(cli.app, ["ps", "--all", *where]).stdout
    assert runner.invoke(cli.app, ["cancel", "video_none", *where]).exit_code == 2
    assert runner.invoke(cli.app, ["serve", "delete", job, *where]).exit_code == 0
    assert job not in runner.invoke(cli.app, ["ps", "--all", *where]).stdout


def test_keys_are_made_listed_rotated_and_revoked(tmp_path):
    runner = CliRunner()
    where = ["--data", str(tmp_path)]
    made = runner.invoke(cli.app, ["serve", "keys", "create", "me", "--concurrency", "2", *where])
    assert made.exit_code == 0 and made.stdout.startswith("sk-sorano-")
    listed = runner.invoke(cli.app, ["serve", "keys", "list", "--json", *where])
    (row,) = json.loads(listed.stdout)["keys"]
    assert row["limits"]["concurrency"] == 2 and made.stdout.strip() not in listed.stdout and "hash" not in row
    new = runner.invoke(cli.app, ["serve", "keys", "rotate", row["id"], *where])
    assert new.stdout.startswith("sk-sorano-") and new.stdout != made.stdout
    assert runner.invoke(cli.app, ["serve", "keys", "revoke", row["id"], *where]).exit_code == 0
    assert runner.invoke(cli.app, ["serve", "keys", "revoke", "key_none", *where]).exit_code == 2
    assert runner.invoke(cli.app, ["serve", "keys", "create", "x", "--scope", "root", *where]).exit_code == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--host", "0.0.0.0"], "no API key"),
        (["--host", "0.0.0.0", "--no-keys"], "loopback"),
        (["--database", "mysql://x/y"], "no database for this"),
        (["--database", "postgresql://nobody@127.0.0.1:1/x"], "cannot be used"),
        (["--blocked-words", "/no/such/file"], "cannot be read"),
        (["--model", "/no/such/folder"], "is not a folder"),
    ],
)
def test_servers_that_do_not_start_say_why(tmp_path, words, said):
    done = CliRunner().invoke(cli.app, ["serve", "--port", "0", "--data", str(tmp_path), *words])
    assert done.exit_code == (3 if "--model" in words else 2) and said in done.stderr and "hint: " in done.stderr


def test_each_worker_of_a_server_has_a_gpu_of_its_own(tmp_path, monkeypatch):
    workers = server.Workers(serving.settings_of(tmp_path, workers=3))

    def seen():
        return [workers._environment(number).get("CUDA_VISIBLE_DEVICES") for number in range(3)]

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4, 7")
    assert seen() == ["4", "7", "4"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # none is to be used
    assert seen() == ["", "", ""]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(server, "GPUS", tmp_path / "none")
    assert seen() == [None] * 3
    for name in ("0000:01:00.0", "0000:02:00.0"):
        (tmp_path / "gpus" / name).mkdir(parents=True)
    monkeypatch.setattr(server, "GPUS", tmp_path / "gpus")
    assert seen() == ["0", "1", "0"]


def test_a_port_that_is_taken_is_said(tmp_path):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = CliRunner().invoke(cli.app, ["serve", "--port", port, "--data", str(tmp_path)])
        assert done.exit_code == 2 and f"port {port} cannot be used" in done.stderr
