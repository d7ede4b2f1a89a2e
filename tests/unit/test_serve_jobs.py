"""The job table, on SQLite and on PostgreSQL: leases, fencing, fairness, limits, sweeping."""

import random
import threading
import time
from dataclasses import replace

import pytest
import sqlalchemy as sa

from sorano.serve.database import MIGRATIONS, Watcher, accounts, audit, jobs, metadata
from sorano.serve.jobs import MOST_BATCH, Jobs
from sorano.serve.posts import KeyLimits, NewJob, Post
from sorano.web.database import Database
from sorano.web.migrate import migrate
from sorano.web.problems import CODES, Problem

ONE = NewJob(
    model="world", preset="world", words={"prompt": "a"}, shown={"prompt": "a", "seconds": 1.0}, video_seconds=1.0
)  # fmt: skip


@pytest.fixture
def database(database_url):
    made = Database(database_url)
    migrate(made, MIGRATIONS)
    yield made
    made.close()


@pytest.fixture
def table(database):
    return Jobs(database, most_attempts=2)


def submit(table, count=1, owner="a", **words):
    return [row["id"] for row in table.submit([replace(ONE, **words)] * count, owner=owner)]


def test_the_migrations_make_the_tables_of_the_code(database):
    from alembic.autogenerate import compare_metadata
    from alembic.runtime.migration import MigrationContext

    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    migrate(database, MIGRATIONS)  # a second time changes nothing


def test_a_job_is_claimed_once(table):
    ids = submit(table, 20)
    claimed, turn = [], threading.Lock()

    def work():
        while (lease := table.claim("w", 60)) is not None:
            with turn:
                claimed.append(lease.job_id)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == sorted(ids)


def test_only_the_newest_epoch_publishes(table):
    submit(table)
    old = table.claim("w1", 0.05)
    time.sleep(0.1)
    assert table.sweep().requeued == [old.job_id]
    new = table.claim("w2", 60)
    assert new.epoch == old.epoch + 1
    assert not table.renew(old, 60, {}) and not table.is_held(old)
    assert not table.publish(old, {"video.mp4": {}}, {}, {}, "pending")
    assert not table.fail(old, "internal_error", "late")
    assert table.publish(new, {"video.mp4": {}}, {"seconds": 1}, {}, "pending")
    assert table.is_published(new) and not table.is_published(old)
    assert table.publish(new, {"other": {}}, {"seconds": 2}, {}, "pending")  # it was, and nothing changes
    row = table.get(new.job_id, "a")
    assert row["status"] == "completed" and row["files"] == {"video.mp4": {}} and row["shown"] == {"seconds": 1}
    with table.database.read() as connection:
        told = connection.execute(sa.select(audit.c.action).where(audit.c.action == "complete")).all()
    assert len(told) == 1
    table.delete(new.job_id, "a")
    assert not table.is_published(new) and not table.publish(new, {}, {}, {}, "pending")


def test_a_job_whose_workers_die_fails_with_a_code(table):
    (job,) = submit(table)
    for _ in range(2):
        table.claim("w", 0.01)
        time.sleep(0.05)
        table.sweep()
    row = table.get(job, None)
    assert (row["status"], row["error_code"]) == ("failed", "worker_lost")


def test_a_job_that_is_given_back_costs_no_attempt(table):
    (job,) = submit(table)
    for _ in range(4):
        assert table.release(table.claim("w", 60))
    assert table.get(job, None)["status"] == "queued"


def test_cancelling_takes_the_lease_away(table):
    (job,) = submit(table)
    lease = table.claim("w", 60)
    assert table.cancel(job, "a")["error_code"] == "cancelled"
    assert not table.is_held(lease) and not table.publish(lease, {}, {}, {}, "done")
    assert table.cancel(job, "a")["status"] == "failed"  # again changes nothing
    with pytest.raises(Problem, match="there is no video"):
        table.cancel(job, "somebody else")


def test_what_is_done_is_not_cancelled(table):
    (job,) = submit(table)
    table.publish(table.claim("w", 60), {}, {}, {}, "done")
    with pytest.raises(Problem) as caught:
        table.cancel(job, "a")
    assert caught.value.code == "wrong_state"


def test_priority_comes_before_age(table):
    first, second = submit(table, 2)
    (urgent,) = submit(table, priority=5)
    assert [table.claim("w", 60).job_id for _ in range(3)] == [urgent, first, second]


def test_keys_get_equal_shares_however_much_they_ask_for(table):
    submit(table, 10, owner="greedy", planned_seconds=10.0)
    submit(table, 3, owner="modest", planned_seconds=10.0)
    order = [table.claim("w", 60).row["owner"] for _ in range(6)]
    assert sorted(order[:2]) == ["greedy", "modest"] and order.count("modest") == 3


def test_who_was_idle_does_not_catch_up(table):
    submit(table, 6, owner="busy", planned_seconds=10.0)
    for _ in range(4):
        table.claim("w", 60)
    submit(table, 6, owner="late", planned_seconds=10.0)
    order = [table.claim("w", 60).row["owner"] for _ in range(4)]
    assert order.count("busy") == 2


def test_a_worker_prefers_the_model_that_it_has(table):
    submit(table, preset="other")
    (mine,) = submit(table, preset="world")
    assert table.claim("w", 60, loaded="world").job_id == mine
    assert table.claim("w", 60, loaded="world").row["preset"] == "other"


def test_a_key_runs_no_more_at_once_than_it_may(table):
    table.submit([ONE] * 3, owner="a", limits=KeyLimits(concurrency=1))
    lease = table.claim("w", 60)
    assert table.claim("w", 60) is None
    table.publish(lease, {}, {}, {}, "done")
    assert table.claim("w", 60) is not None


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        (KeyLimits(requests_per_day=2), "quota_exceeded"),
        (KeyLimits(video_seconds_per_day=2.5), "quota_exceeded"),
        (KeyLimits(queued=2), "queue_full"),
    ],
)
def test_limits_of_a_key(table, limits, code):
    table.submit([ONE] * 2, owner="a", limits=limits)
    with pytest.raises(Problem) as caught:
        table.submit([ONE], owner="a", limits=limits)
    assert caught.value.code == code and caught.value.kind.status == 429 and caught.value.retry_after > 0
    table.submit([ONE], owner="b", limits=limits)
    assert len(table.page("a", after=None, limit=10, ascending=True)[0]) == 2


def test_a_full_queue_says_when_to_come_again(database):
    small = Jobs(database, most_queued=2)
    small.submit([ONE] * 2, owner="a")
    with pytest.raises(Problem) as caught:
        small.submit([ONE], owner="b")
    assert caught.value.headers()["retry-after"] == "30"


def test_a_repeated_post_makes_one_job(table):
    first = table.submit([ONE], owner="a", body_hash="h", idempotency_key="k")
    assert table.submit([ONE], owner="a", body_hash="h", idempotency_key="k")[0]["id"] == first[0]["id"]
    with pytest.raises(Problem) as caught:
        table.submit([ONE], owner="a", body_hash="other", idempotency_key="k")
    assert caught.value.code == "idempotency_mismatch"
    assert table.submit([ONE], owner="b", body_hash="h", idempotency_key="k")[0]["id"] != first[0]["id"]
    assert table.submit([ONE], owner="a", body_hash="h", is_retry=True)[0]["id"] == first[0]["id"]
    assert table.submit([ONE], owner="a", body_hash="h")[0]["id"] != first[0]["id"]  # asked for twice on purpose


def test_repeated_posts_at_the_same_time_make_one_job(table):
    found = []
    threads = [
        threading.Thread(
            target=lambda: found.append(
                table.submit([ONE], owner="a", body_hash="h", idempotency_key="k")[0]["id"]
            )
        )
        for _ in range(8)
    ]  # fmt: skip
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and len(set(found)) == 1


def test_a_post_behind_a_full_batch_is_written_too(table):
    others = [Post((ONE,), f"other {number}", KeyLimits(), "", None, False) for number in range(2 * MOST_BATCH)]
    table._waiting += others  # their threads have not had their turn yet
    (own,) = submit(table)
    assert table.get(own, "a")["status"] == "queued"
    assert all(post.is_done and len(post.rows) == 1 for post in others) and not table._waiting


def test_many_posts_at_the_same_time_each_get_their_own_job(table, monkeypatch):
    monkeypatch.setattr("sorano.serve.jobs.MOST_BATCH", 3)
    found = {}

    def post(number):
        found[number] = table.submit([ONE], owner=f"{number}")

    threads = [threading.Thread(target=post, args=(number,)) for number in range(20)]
    with table._turn:
        for thread in threads:
            thread.start()
        while len(table._waiting) < len(threads):
            time.sleep(0.01)
    for thread in threads:
        thread.join(30)
    assert {number: rows[0]["owner"] for number, rows in found.items()} == {n: f"{n}" for n in range(20)}


def test_the_queue_can_be_put_in_order(table):
    first, second, third = submit(table, 3)
    table.move(third, "a", to_top=False)
    table.change(first, "a", is_paused=True)
    assert table.order.before([table.get(second, None)])[second][0] == 1
    assert table.claim("w", 60).job_id == third
    table.change(first, "a", is_paused=False)
    table.move(second, "a", to_top=True)
    assert [table.claim("w", 60).job_id for _ in range(2)] == [second, first]
    with pytest.raises(Problem, match="only a job that waits"):
        table.change(first, "a", is_paused=True)


@pytest.mark.parametrize("seed", range(4))
def test_the_place_in_the_queue_is_the_one_in_which_a_worker_takes_it(database, seed):
    """Of keys that ask for more or less, with priorities, pauses and changes; seen by another server."""
    chance, table, other = random.Random(seed), Jobs(database), Jobs(database)

    def more(count):
        for _ in range(count):
            words = {"planned_seconds": chance.choice([None, 0.0, 0.5, 3.0, 9.0]), "priority": chance.choice([0, 0, 2])}
            submit(table, chance.randint(1, 3), owner=chance.choice("abcde"), **words)
            look_at(table)  # what it knows is kept up, not read anew

    def look_at(jobs_of):
        rows, _ = jobs_of.page(None, after=None, limit=1000, ascending=True, statuses=("queued",))
        return {name: count for name, (count, _) in jobs_of.order.before(rows).items()}

    more(15)
    for _ in range(6):
        table.publish(table.claim("w", 60), {}, {}, {}, "done")
    more(8)
    paused = [name for name in look_at(table) if chance.random() < 0.2]
    for name in paused:
        table.change(name, None, is_paused=True)
    table.move(next(reversed(look_at(table))), None, to_top=True)
    more(5)
    places = look_at(other)
    assert look_at(table) == places
    taken = []
    while (lease := other.claim("w", 60)) is not None:
        taken.append(lease.job_id)
        other.publish(lease, {}, {}, {}, "done")
    assert [places[name] for name in taken] == list(range(len(taken)))
    assert set(paused) == set(places) - set(taken)


def test_what_a_key_may_not_run_now_waits_behind_what_others_ask_for(table):
    table.submit([ONE] * 2, owner="a", limits=KeyLimits(concurrency=1))
    table.claim("w", 60)
    (theirs,) = submit(table, owner="b", planned_seconds=99.0)
    (_, held), _ = table.page("a", after=None, limit=2, ascending=True)
    assert [table.order.before([table.get(name, None)])[name][0] for name in (theirs, held["id"])] == [0, 1]
    assert table.claim("w", 60).job_id == theirs and table.claim("w", 60) is None


def test_a_key_with_nothing_in_the_queue_is_told_where_it_would_be(table):
    submit(table, 9, owner="greedy", planned_seconds=10.0)
    assert table.order.before_new("greedy")[0] == 9 and table.order.before_new("modest") == (1, 10.0)
    (own,) = submit(table, owner="modest")
    assert table.order.before([table.get(own, None)])[own] == (1, 10.0)
    table.claim("w", 60)
    assert table.claim("w", 60).job_id == own


def test_deadlines_and_expiry(database):
    table = Jobs(database, keep_seconds=0.05)
    (late,) = submit(table, deadline_seconds=0.01)
    (done,) = submit(table)
    time.sleep(0.05)
    assert table.sweep().failed == [late]
    assert table.get(late, None)["error_code"] == "deadline_exceeded"
    table.publish(table.claim("w", 60), {}, {}, {}, "done")
    time.sleep(0.1)
    assert set(table.sweep().expired) == {late, done}
    with pytest.raises(Problem):
        table.get(done, None)


def test_what_ended_before_days_were_told_goes_too(database):
    before, after = Jobs(database), Jobs(database, keep_seconds=0.05)
    done, cancelled, waiting = submit(before, 3)
    before.publish(before.claim("w", 60), {}, {}, {}, "done")
    before.cancel(cancelled, "a")
    assert before.sweep().expired == []
    time.sleep(0.1)
    assert set(after.sweep().expired) == {done, cancelled}
    assert after.get(waiting, None)["status"] == "queued"


def test_a_page_follows_another(table):
    ids = submit(table, 5)
    seen, after = [], None
    while True:
        rows, more = table.page("a", after=after, limit=2, ascending=False)
        seen += [row["id"] for row in rows]
        after = seen[-1]
        if not more:
            break
    assert seen == ids[::-1]
    assert [row["id"] for row in table.page("a", after=ids[2], limit=9, ascending=True)[0]] == ids[3:]


def test_a_page_of_some_statuses_is_not_filled_by_others(table):
    (first,) = submit(table)
    for _ in range(5):
        (job,) = submit(table)
        table.cancel(job, None)
    rows, more = table.page(None, after=None, limit=3, ascending=False, statuses=("queued", "in_progress"))
    assert [row["id"] for row in rows] == [first] and not more


def test_a_watcher_hears_of_a_new_job(table):
    watcher = Watcher(table.database)
    while watcher.wait(0.05):
        pass
    assert not watcher.wait(0.05)
    submit(table)
    began = time.monotonic()
    assert watcher.wait(60.0) and time.monotonic() - began < 50.0  # woken, not timed out
    watcher.close()


def test_the_audit_says_who_did_what(table):
    (job,) = submit(table)
    table.cancel(job, "a")
    table.delete(job, None)
    with table.database.read() as connection:
        found = [row.action for row in connection.execute(sa.select(audit).order_by(audit.c.seq))]
    assert found == ["create", "cancel", "delete"]


def test_a_private_prompt_is_not_in_the_audit(table):
    submit(table, words={"prompt": "secret", "private": True}, shown={"prompt": "secret"})
    with table.database.read() as connection:
        assert "secret" not in str(connection.execute(sa.select(audit.c.detail)).all())


def test_every_code_of_a_job_is_in_the_table(table):
    (job,) = submit(table)
    table.fail(table.claim("w", 60), "storage_full", "full")
    assert table.get(job, None)["error_code"] in CODES
    with table.database.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(accounts)).scalar_one() == 1
        assert connection.execute(sa.select(jobs.c.attempts)).scalar_one() == 1
