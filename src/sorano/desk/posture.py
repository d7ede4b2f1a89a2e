"""The posture of a desk: fixed rules, each with a fixed action: what, why, the command or the button, and the way back.

A rule reads what is there (the policy, the directory, the keys, the ledger, videos, verdicts) and names what it read.
No action is taken; the words are for people.

Two rules look at media. Videos of the local server and of a folder that is named have a label or a signature, as
everything has that Sorano makes. And the share of calls and of uploads in which something could be read (a mark, its
absence, a signature) has not fallen: the last `LATELY_DAYS` are compared with the `BEFORE_DAYS` before them.

Not covered: other machines, the network, the proxy in front of the desk, how people behave.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from sorano.desk.policy import NEVER
from sorano.desk.service import Desk
from sorano.desk.tables import calls, credentials, one_time_secrets, people, receipts, seals
from sorano.errors import TrustError, VideoError
from sorano.files import user_folder
from sorano.trust.provenance import embedding, keys, label
from sorano.web.problems import Problem

BAD, MIND = "bad", "mind"
LEAF_DAYS, ROOT_DAYS = 30, 365  # before its end that a certificate is named
SEAL_DAYS = 2  # that receipts may wait for their signature
SPONSORS_AND_ONE = 3
SERVED = "SORANO_SERVE_DATA"  # the folder of the local server (`sorano serve`)
MOST_VIDEOS = 200  # of a folder, the newest
LATELY_DAYS, BEFORE_DAYS = 7, 28
LEAST_MEDIA, LEAST_FALL, CLEAR = 20, 0.1, 3.0  # in each period; of the share; in deviations of chance


@dataclass(frozen=True)
class Action:
    """What to do about a finding."""

    what: str
    why: str
    command: str  # to type, or the button to press
    undo: str


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be, what was read, and the action of the catalogue."""

    id: str
    severity: str
    found: str
    action: Action

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


# fmt: off
ACTIONS: dict[str, Action] = {
    "keys_unusable": Action("mend the signing keys", "receipts cannot be signed", "sorano keys list",
                            "the keys are kept; nothing was changed"),
    "leaf_ends": Action("renew the signing certificate", "signatures after its end are refused", "sorano keys rotate",
                        "the old certificate stays in keys/retired"),
    "root_ends": Action("make a new root and hand it out", "auditors will no longer trust what is signed under it",
                        "sorano keys rotate --root", "the old root stays in keys/retired and is still trusted here"),
    "keys_readable": Action("close the key files to others", "whoever reads them signs as this desk",
                            "chmod -R go-rwx KEYS", "chmod again"),
    "no_time_stamp": Action("name a time-stamp authority", "a signature's time is the signer's own word",
                            "export SORANO_TSA=URL", "unset SORANO_TSA"),
    "no_passkey": Action("enrol a device for each", "they cannot confirm what is asked in their name",
                         "People: Enrolment or recovery", "DELETE /people/ID ends an entry"),
    "codes_alone": Action("enrol a passkey for each", "one-time codes can be phished",
                          "People: Enrolment or recovery", "a recovery ends the device"),
    "few_sponsors": Action("enrol a third person", "two vouch for a third: nobody's device could be recovered",
                           "People: Enrolment or recovery", "DELETE /people/ID ends an entry"),
    "no_administrator": Action("enrol a second administrator", "one alone can be away, or be coerced",
                               "People: Enrolment or recovery", "DELETE /people/ID ends an entry"),
    "few_approvers": Action("enrol more approvers", "requests out of the ordinary can never be approved",
                            "People: Enrolment or recovery", "DELETE /people/ID ends an entry"),
    "no_second_approver": Action("ask for two independent approvers", "one person who is fooled is enough",
                                 "approval.independent_high = 2", "the old number in the policy file"),
    "no_cooling": Action("let first payments cool off", "a new account is paid before anybody can object",
                         "payee.cooling_hours = 24", "the old number in the policy file"),
    "no_limit": Action("set an amount that is refused", "any sum can be released in one request",
                       'amount.refuse_from = "..."', "remove the line"),
    "no_velocity": Action("set a limit of sums", "a fraud that is split stays below every single limit",
                          'velocity.refuse_from = "..."', "remove the line"),
    "codes_high": Action("lower what codes may approve", "codes can be phished", 'fallback.codes_below = "5000"',
                         "the old number in the policy file"),
    "calls_ignored": Action("make unverified calls count", "a call that nobody checked raises nothing",
                            'call.high = ["UNVERIFIED", "SUSPICIOUS"]', "the old list in the policy file"),
    "not_sealed": Action("sign the receipts, and keep the export elsewhere", "unsigned receipts can be rewritten",
                         "sorano desk audit -o receipts.jsonl", "delete the export"),
    "anchor_beside": Action("keep the anchor apart from the database", "one restored copy takes both back",
                            "sorano desk serve --anchor PATH", "the old --anchor"),
    "frozen": Action("find out why, then accept", "nothing is confirmed or released", "sorano desk accept REASON",
                     "none: what was open is denied"),
    "key_does_both": Action("give each program its own key", "one stolen key files and executes",
                            "sorano desk keys create NAME --scope ...", "sorano desk keys revoke ID"),
    "key_without_end": Action("make keys that end", "a forgotten key works for ever",
                              "sorano desk keys create NAME --scope ... --days 90", "sorano desk keys revoke ID"),
    "open_without_tls": Action("stand behind https", "others can read and change what the page shows",
                               "sorano desk serve --origin https://...", "the old --origin"),
    "not_labelled": Action("mark and sign each", "nobody can tell that they were made by AI", "sorano mark FILE",
                           "delete the marked copy: the file is kept"),
    "detection_falls": Action("find what changed (a meeting program, a coder, a platform that strips)",
                              "what is swapped would no longer be found", "sorano verify FILE --json",
                              "none: nothing is changed"),
    "database_readable": Action("close the desk's folder to others", "it holds requests and secrets of codes",
                                "chmod -R go-rwx DATA", "chmod again"),
}
# fmt: on

Rule = Callable[[Desk, float], Iterator[tuple[str, str, str]]]  # id of the action, severity, what was found


def examine(desk: Desk) -> list[Finding]:
    """Every finding, the bad ones first."""
    now = desk.ledger.clock.read().wall
    found = [Finding(name, severity, text, ACTIONS[name]) for rule in RULES for name, severity, text in rule(desk, now)]
    return sorted(found, key=lambda one: one.severity != BAD)


def _signing(desk: Desk, now: float) -> Iterator[tuple[str, str, str]]:
    folder = keys.keys_folder()
    open_files = [path.name for path in _files(folder) if _is_open(path)]
    if open_files:
        yield "keys_readable", BAD, f"{folder}: {', '.join(open_files)}"
    try:
        signer = keys.present()  # as it is: a look makes and renews nothing
        leaves = [signer.leaf] if signer is not None else []
        roots = [keys.certificates(pem, "a root")[0] for pem in keys.own_roots()[:1]]
    except TrustError as error:
        yield "keys_unusable", BAD, error.message
        return
    ends = [("leaf_ends", LEAF_DAYS, leaf) for leaf in leaves] + [("root_ends", ROOT_DAYS, root) for root in roots]
    for name, days, cert in ends:
        left = (cert.not_valid_after_utc - datetime.fromtimestamp(now, UTC)).days
        if left < days:
            yield name, BAD if left < 0 else MIND, f"{keys.common_name(cert)} ends in {left} days"
    if not os.environ.get("SORANO_TSA"):
        yield "no_time_stamp", MIND, "SORANO_TSA is not set"


def _staff(desk: Desk, now: float) -> Iterator[tuple[str, str, str]]:
    with desk.database.read() as connection:
        run = connection.execute
        listed = run(sa.select(people).where(people.c.ended_at.is_(None))).mappings().all()
        live = {row.person_id for row in run(sa.select(credentials).where(credentials.c.revoked_at.is_(None)))}
        coded = {row.person_id for row in run(sa.select(one_time_secrets.c.person_id))}
    armed = [one for one in listed if one["id"] in live]
    bare = [one["handle"] for one in listed if one["id"] not in live | coded]
    if bare:
        yield "no_passkey", MIND, f"{len(bare)} of {len(listed)}: {', '.join(bare[:10])}"
    if only := [one["handle"] for one in listed if one["id"] in coded - live]:
        yield "codes_alone", BAD, ", ".join(only[:10])
    if len(armed) < SPONSORS_AND_ONE:
        yield "few_sponsors", BAD, f"{len(armed)} people have a passkey"
    if sum("admin" in one["roles"] for one in armed) < 2:
        yield "no_administrator", BAD, "fewer than two administrators have a passkey"
    approvers = sum("approve" in one["roles"] for one in armed)
    needed = desk.policy.independent_high + 1  # the purported requester may be one of them
    if approvers < needed:
        yield "few_approvers", BAD, f"{approvers} approvers have a passkey, {needed} are needed"


def _policy(desk: Desk, now: float) -> Iterator[tuple[str, str, str]]:
    policy = desk.policy
    if policy.independent_high < 2:
        yield "no_second_approver", BAD, f"approval.independent_high is {policy.independent_high}"
    if policy.cooling_seconds == 0:
        yield "no_cooling", BAD, "payee.cooling_hours is 0"
    if policy.refuse_from == NEVER:
        yield "no_limit", MIND, "amount.refuse_from is not set"
    if NEVER in (policy.sum_refuse_from, policy.payee_refuse_from) or policy.velocity_seconds < 86_400:
        yield "no_velocity", BAD, "velocity has no limit, or looks back less than a day"
    if policy.codes_below > 0 and policy.codes_below * 50 > policy.high_from:
        yield "codes_high", MIND, f"fallback.codes_below is {policy.codes_below}"
    if "UNVERIFIED" not in (*policy.call_high, *policy.call_refuse):
        yield "calls_ignored", BAD, "call.high does not name UNVERIFIED"


def _ledger(desk: Desk, now: float) -> Iterator[tuple[str, str, str]]:
    try:
        desk.ledger.check()
    except (Problem, TrustError) as error:
        yield "frozen", BAD, error.message
    with desk.database.read() as connection:
        sealed = connection.execute(sa.select(sa.func.max(seals.c.seq))).scalar() or 0
        query = sa.select(receipts.c.line).where(receipts.c.seq > sealed).order_by(receipts.c.seq).limit(1)
        line = connection.execute(query).scalar()
    if line is not None:
        days = (now - json.loads(line)["at"] / 1000) / 86_400
        if days > SEAL_DAYS:
            yield "not_sealed", BAD, f"receipts of {days:.0f} days ago are not signed"
    anchor = desk.settings.anchor_file
    if anchor.resolve().is_relative_to(desk.settings.data.resolve()):
        yield "anchor_beside", BAD, str(anchor)


def _access(desk: Desk, now: float) -> Iterator[tuple[str, str, str]]:
    for row in desk.keys.all():
        if row["revoked_at"] is not None or (row["expires_at"] or now + 1) <= now:
            continue
        if {"file", "execute"} <= set(row["scopes"]):
            yield "key_does_both", BAD, f"{row['id']} ({row['name']})"
        if row["expires_at"] is None:
            yield "key_without_end", MIND, f"{row['id']} ({row['name']})"
    if not desk.settings.is_loopback and not desk.settings.origin.startswith("https"):
        yield "open_without_tls", BAD, f"{desk.settings.host}, {desk.settings.origin}"
    if desk.database.is_sqlite and _is_open(desk.settings.data):
        yield "database_readable", BAD, str(desk.settings.data)


def _labels(desk: Desk, now: float) -> Iterator[tuple[str, str, str]]:
    served = Path(os.environ.get(SERVED) or user_folder("data") / "serve") / "videos"  # beside them: what was uploaded
    for folder, pattern in ((served, "video.*"), (desk.settings.media, "*")):
        bare = [path.name for path in _videos(folder, pattern) if not _is_labelled(path)] if folder else []
        if bare:
            yield "not_labelled", BAD, f"{folder}: {len(bare)} files: {', '.join(bare[:10])}"


def _detection(desk: Desk, now: float) -> Iterator[tuple[str, str, str]]:
    with desk.database.read() as connection:
        judged = [(row.at, row.verdict) for row in connection.execute(sa.select(calls.c.at, calls.c.verdict))]
    for name, rows in (("calls", judged), ("uploads", _gate_verdicts(desk.settings.gate_log))):
        ages = [((now - at) / 86_400, verdict != "UNVERIFIED") for at, verdict in rows]
        late = [was_read for age, was_read in ages if age <= LATELY_DAYS]
        early = [was_read for age, was_read in ages if LATELY_DAYS < age <= LATELY_DAYS + BEFORE_DAYS]
        if min(len(late), len(early)) < LEAST_MEDIA:
            continue
        before, since = sum(early) / len(early), sum(late) / len(late)
        share = (sum(early) + sum(late)) / (len(early) + len(late))
        chance = math.sqrt(share * (1 - share) * (1 / len(early) + 1 / len(late)))
        if before - since > max(LEAST_FALL, CLEAR * chance):
            told = f"{name}: something could be read in {before:.0%} of {len(early)}"
            yield "detection_falls", BAD, f"{told}, in the last {LATELY_DAYS} days in {since:.0%} of {len(late)}"


RULES: tuple[Rule, ...] = (_signing, _staff, _policy, _ledger, _access, _labels, _detection)


def _videos(folder: Path, pattern: str) -> list[Path]:
    """The newest media of a folder."""
    from sorano.trust.verify import SUFFIXES

    found = [path for path in folder.rglob(pattern) if path.suffix.lower() in SUFFIXES and path.is_file()]
    return sorted(found, key=lambda path: -path.stat().st_mtime)[:MOST_VIDEOS]


def _is_labelled(path: Path) -> bool:
    """Whether a file has a label or a signature, true or not: `sorano verify` says that. Else it is no media."""
    try:
        return bool(label.read(path)) or embedding.c2pa_store(path) is not None
    except VideoError:
        return False


def _gate_verdicts(path: Path | None) -> list[tuple[float, str]]:
    """When each piece of media came through the gate, and its verdict, by the lines that it logs."""
    found = []
    for line in path.read_text(errors="replace").splitlines() if path is not None and path.is_file() else ():
        if '"media"' in line:
            try:
                words = json.loads(line)
                found += [(float(words["at"]), str(words["verdict"]))] if words["event"] == "media" else []
            except (ValueError, KeyError, TypeError):  # a line that was cut, or another program's
                continue
    return found


def _files(folder: Path) -> Iterable[Path]:
    return sorted(folder.glob("*.key")) if folder.is_dir() else ()


def _is_open(path: Path) -> bool:
    return os.name == "posix" and path.exists() and bool(path.stat().st_mode & 0o077)
