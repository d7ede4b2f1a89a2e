"""The rules about the desk itself, and case files: what is seeded is found, with its action."""

import base64
import io
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from support import desking, voices
from support.desking import ORIGIN

from sorano.desk import case_pages, posture
from sorano.desk.case_pages import case_page, case_pdf
from sorano.desk.cases import build_case
from sorano.desk.policy import read_policy
from sorano.desk.tables import calls, credentials, one_time_secrets
from sorano.errors import RequestError, TrustError
from sorano.files import canonical
from sorano.trust.provenance import keys, label
from sorano.trust.provenance.roots import require_signature

DATABASES = ("sqlite", "postgresql")
USUAL = read_policy()
PLAIN = voices.write_sound(io.BytesIO(), voices.speech(1, 1), "aac", "mp4").getvalue()  # no label, no signature


@pytest.fixture
def sound(tmp_path, monkeypatch, store):
    """A desk in good order: nothing is found."""
    monkeypatch.setenv("SORANO_CONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("SORANO_TSA", "https://tsa.example")
    monkeypatch.setenv(posture.SERVED, str(tmp_path / "serve"))
    keys.identity()
    (tmp_path / "data").mkdir(mode=0o700)
    with desking.world(tmp_path / "data", store, anchor=tmp_path / "elsewhere" / "anchor.json") as made:
        for row in made.desk.keys.all():
            made.desk.keys.revoke(row["id"])
        made.desk.ledger.seal(keys.identity())
        yield made


def found(world):
    return {one.id: one for one in posture.examine(world.desk)}


def policy(**words):
    return lambda world: setattr(world.desk, "policy", replace(USUAL, **words))


def settings(**words):
    return lambda world: setattr(world.desk, "settings", replace(world.desk.settings, **words))


def disarm(count):
    def act(world):
        with world.desk.database.write() as connection:
            rows = connection.execute(sa.select(credentials.c.id).order_by(credentials.c.created_at)).all()
            for row in rows[:count]:
                connection.execute(sa.update(credentials).where(credentials.c.id == row.id).values(revoked_at=1.0))

    return act


def codes_alone(world):
    with world.desk.database.write() as connection:
        person = connection.execute(sa.select(credentials.c.person_id)).scalar()
        connection.execute(sa.update(credentials).where(credentials.c.person_id == person).values(revoked_at=1.0))
        values = {"person_id": person, "secret": "A" * 32, "last_step": 0, "created_at": 1.0}
        connection.execute(sa.insert(one_time_secrets).values(**values))


def key(*scopes, days=None):
    return lambda world: world.desk.keys.create_with("erp", scopes, {}, days)


def served(world):
    """A video of the local server without its label, beside an upload, which needs none."""
    for name in ("videos/job_1/0/video.mp4", "assets/upload.mp4"):
        path = Path(os.environ[posture.SERVED]) / name
        path.parent.mkdir(parents=True)
        path.write_bytes(PLAIN)


def judged_calls(shares):
    """Calls of this week and of the weeks before, with the share of each that could be judged."""

    def act(world):
        now = world.desk.ledger.clock.read().wall
        with world.desk.database.write() as connection:
            for days, share in zip((1, 20), shares, strict=True):
                for number in range(40):
                    verdict = ("VERIFIED", "TAMPERED")[number % 2] if number < 40 * share else "UNVERIFIED"
                    row = {"id": f"call_{days}_{number}", "verdict": verdict, "at": now - days * 86_400}
                    connection.execute(sa.insert(calls).values(**row))

    return act


SEEDED = {  # a misconfiguration, and the rule that must find it
    "no_second_approver": policy(independent_high=1),
    "no_cooling": policy(cooling_seconds=0.0),
    "no_limit": policy(refuse_from=posture.NEVER),
    "no_velocity": policy(sum_refuse_from=posture.NEVER),
    "codes_high": policy(codes_below=USUAL.high_from),
    "calls_ignored": policy(call_high=("SUSPICIOUS",)),
    "no_passkey": disarm(1),
    "few_sponsors": disarm(2),
    "few_approvers": disarm(3),
    "no_administrator": disarm(2),
    "codes_alone": codes_alone,
    "key_does_both": key("file", "execute", days=30),
    "key_without_end": key("audit"),
    "open_without_tls": settings(host="0.0.0.0", origin="http://localhost:8010"),
    "not_sealed": lambda world: (world.file(), world.hands.wait(4 * 86_400)),
    "frozen": lambda world: world.settings.anchor_file.unlink(),
    "leaf_ends": lambda world: world.hands.wait(365 * 3 * 86_400 - 5 * 86_400),
    "root_ends": lambda world: world.hands.wait(365 * 20 * 86_400 - 5 * 86_400),
    "no_time_stamp": lambda world: os.environ.pop("SORANO_TSA"),
    "not_labelled": served,
    "detection_falls": judged_calls((0.4, 0.9)),
    "keys_unusable": lambda world: (keys.keys_folder() / "leaf.key").write_text("no key"),
}


def test_a_desk_in_good_order_has_no_findings(sound):
    assert found(sound) == {}


@pytest.mark.parametrize("name", SEEDED)
def test_a_seeded_misconfiguration_is_found_with_its_action(sound, name):
    SEEDED[name](sound)
    one = found(sound)[name]
    assert one.action is posture.ACTIONS[name] and one.found
    assert all((one.action.what, one.action.why, one.action.command, one.action.undo))


@pytest.mark.parametrize("shares", [(0.9, 0.9), (0.85, 0.9), (0.9, 0.4)])
def test_a_detection_rate_that_has_not_clearly_fallen_is_no_finding(sound, shares):
    judged_calls(shares)(sound)
    assert found(sound) == {}


def test_uploads_whose_marks_are_read_less_often_are_found_in_the_log_of_the_gate(sound, tmp_path):
    now, log = sound.desk.ledger.clock.read().wall, tmp_path / "gate.log"
    settings(gate_log=log)(sound)
    assert found(sound) == {}
    lines = [
        json.dumps(
            {"at": now - days * 86_400, "event": "media", "verdict": "VERIFIED" if number < read else "UNVERIFIED"}
        )
        for days, read in ((2, 5), (10, 25))
        for number in range(30)
    ]
    log.write_text("\n".join([*lines, "a line of another program", '{"event": "media"', '{"event": "media", "at": 1}']))
    assert "uploads" in found(sound)["detection_falls"].found and "17% of 30" in found(sound)["detection_falls"].found
    log.write_text("\n".join(lines[:30]))  # nothing to compare with
    assert found(sound) == {}


def test_what_is_labelled_or_signed_in_a_named_folder_is_no_finding(sound, tmp_path):
    folder = tmp_path / "exports"
    folder.mkdir()
    settings(media=folder)(sound)
    (folder / "notes.txt").write_text("no media")
    for name in ("labelled.mp4", "plain.mp4"):
        (folder / name).write_bytes(PLAIN)
    made = label.Label(label="1", producer="Sorano", produce_id="1")
    label.write(folder / "labelled.mp4", made)
    one = found(sound)["not_labelled"]
    assert "1 files: plain.mp4" in one.found and one.action.command == "sorano mark FILE"
    (folder / "plain.mp4").unlink()
    assert found(sound) == {}


@pytest.mark.posix
def test_files_that_others_can_read_are_found(sound):
    (keys.keys_folder() / "root.key").chmod(0o644)
    sound.settings.data.chmod(0o755)
    held = {"keys_readable", "database_readable"} if sound.desk.database.is_sqlite else {"keys_readable"}
    assert held <= set(found(sound))


def test_an_anchor_beside_its_database_is_found(tmp_path):
    with desking.world(tmp_path) as world:
        assert "anchor_beside" in found(world)


def test_a_look_makes_and_renews_no_keys(tmp_path, monkeypatch):
    monkeypatch.setenv("SORANO_CONFIG", str(tmp_path / "config"))
    (tmp_path / "data").mkdir()
    with desking.world(tmp_path / "data", anchor=tmp_path / "elsewhere" / "anchor.json") as world:
        assert not {"keys_unusable", "leaf_ends", "root_ends"} & set(found(world))
        assert not keys.keys_folder().exists()
        monkeypatch.setattr(keys, "LEAF_YEARS", 20 / 365)  # of a leaf that is renewed before it signs next
        keys.init()
        before = sorted((one.name, one.read_bytes()) for one in keys.keys_folder().iterdir() if one.is_file())
        assert "leaf_ends" in found(world)
        after = sorted((one.name, one.read_bytes()) for one in keys.keys_folder().iterdir() if one.is_file())
        assert after == before


def test_every_action_has_a_rule_and_a_test():
    tested = {*SEEDED, "keys_readable", "database_readable", "anchor_beside"}
    assert tested == set(posture.ACTIONS)


# Case files.


def test_a_case_is_signed_and_says_what_to_do(world):
    request = world.file(note="Urgent & <b>secret</b>")
    world.people["cfo"].call("POST", f"/requests/{request}/deny", {})
    case = build_case(world.desk, request)
    words = json.loads(case)
    assert canonical(words).decode() == case
    assert [one["kind"] for one in words["receipts"]] == ["requested", "denied"]
    assert words["request"]["payee"] == "Arched Bridge Steel Ltd" and "Nothing was released" in words["next_steps"][0]
    signature = words.pop("signature")
    raw = base64.b64decode(signature)
    require_signature(words["chain"], raw, canonical(words), keys.export(), "the case")
    words["request"]["status"] = "consumed"
    with pytest.raises(TrustError):
        require_signature(words["chain"], raw, canonical(words), keys.export(), "the case")
    page = case_page(case)
    assert "<b>" not in page and "&lt;b&gt;secret" in page and "Content-Security-Policy" in page


def words_of(pdf):
    """The text of each page of a PDF, as a reader finds it."""
    import pypdfium2

    document = pypdfium2.PdfDocument(pdf)
    return [document[place].get_textpage().get_text_bounded() for place in range(len(document))], document


def hostile_case(world):
    words = json.loads(build_case(world.desk, world.file(note="请保密")))
    report = {"verdict": "UNVERIFIED", "summary": "x" * 3000}
    words["recordings"] = [{"file": "<b>a</b>\u202e\x1b[2J\U0001f600.mp4", "sha256": "0" * 64, "report": report}]
    return words


def test_a_case_as_a_pdf_shows_what_the_page_shows(world):
    words = hostile_case(world)
    pages, document = words_of(case_pdf(json.dumps(words)))
    text, request = "".join(pages), words["request"]["id"]
    assert len(pages) > 1 and f"{request}, page {len(pages)}" in pages[-1]
    for shown in (
        request,
        "What to do next",
        "Ask the person in whose name",
        "<b>a</b>",
        "请保密",
        words["signature"][:40],
    ):
        assert shown in text, shown
    assert "\x1b" not in text and "\u202e" not in text and "\\u1f600" in text
    assert document[0].render().to_numpy().min() < 60  # ink


def test_chinese_in_a_pdf_is_set_in_a_font_of_this_machine_or_it_says_so(world, monkeypatch, tmp_path):
    monkeypatch.setattr(case_pages, "FONT_FOLDERS", ())
    case = json.dumps(hostile_case(world))
    assert "SORANO_FONT=FILE" in words_of(case_pdf(case))[0][-1]
    (tmp_path / "a.ttf").write_bytes(b"no font")
    monkeypatch.setenv("SORANO_FONT", str(tmp_path / "a.ttf"))
    with pytest.raises(RequestError, match="names no TrueType font"):
        case_pdf(case)
    found = sorted((Path(sys.prefix) / "chromium" / "data" / "fonts").rglob("wqy-microhei.ttc"))
    if found:
        monkeypatch.setenv("SORANO_FONT", str(found[0]))
        embedded = case_pdf(case)
        assert b"FontFile2" in embedded and "请保密" in "".join(words_of(embedded)[0])


def test_a_case_has_the_recordings_of_the_call(world, tmp_path):
    from PIL import Image

    picture = tmp_path / "call.png"
    Image.new("RGB", (64, 64), "grey").save(picture)
    words = json.loads(build_case(world.desk, world.file(), [picture]))
    assert words["recordings"][0]["report"]["verdict"] == "UNVERIFIED" and len(words["recordings"][0]["sha256"]) == 64


def test_a_case_of_duress_sees_to_safety_first(lax):
    request = lax.file()
    lax.people["cfo"].approve(request, answer="duress")
    assert "duress" in json.loads(build_case(lax.desk, request))["next_steps"][0]


def test_the_commands(world, tmp_path):
    from typer.testing import CliRunner

    from sorano.cli.desk import desk_app

    request = world.file()
    world.desk.close()
    where = ["--data", str(world.folder), "--anchor", str(world.settings.anchor_file), "--origin", ORIGIN]
    where += ["--database", world.settings.database]
    world.settings.anchor_file.unlink()  # seen as frozen; the clock of the tests is not this machine's anyway
    shown = CliRunner().invoke(desk_app, ["posture", "--json", *where])
    assert shown.exit_code == 1
    assert {"frozen", "key_without_end"} <= {one["id"] for one in json.loads(shown.stdout)["findings"]}
    case, page = tmp_path / "case.json", tmp_path / "case.html"
    words = ["case", request, "-o", str(case), "--page", str(page), *where]
    assert CliRunner().invoke(desk_app, words).exit_code == 0
    assert json.loads(case.read_text())["request"]["id"] == request and "<html" in page.read_text()
    assert CliRunner().invoke(desk_app, words).exit_code == 2  # what is there is kept
    printed = tmp_path / "case.pdf"
    assert CliRunner().invoke(desk_app, ["case", request, "--page", str(printed), *where]).exit_code == 0
    assert printed.read_bytes().startswith(b"%PDF-")
    assert CliRunner().invoke(desk_app, ["case", "req_none", *where]).exit_code == 2
