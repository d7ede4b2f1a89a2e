"""A case file: what is known of one request, as signed JSON (`sorano.desk.case_pages` shows it to people).

It holds what the request said, its receipts, what the policy is, what was found in recordings of the call, the findings
about the desk itself, versions and hashes, and what to do next. The signature is this user's (`sorano keys`).

Not covered: what happened outside the desk, and whether the recordings are the call (their hashes are named).
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from sorano.desk.audit import check_signature
from sorano.desk.ledger import TIMELINE, signed
from sorano.desk.policy import describe_policy
from sorano.desk.posture import examine
from sorano.desk.service import Desk
from sorano.desk.tables import receipts
from sorano.errors import TrustError
from sorano.files import sha256
from sorano.trust.provenance import keys

TYPE = "sorano desk case 1"
RECORDING, SUFFIX = "sorano desk recording 1", ".call.json"
MOST_TIMELINE_BYTES = 4 << 20
NEXT = {
    "pending": ("Nothing was released. Ask the person in whose name it is, by a number that you knew before.",),
    "cleared": ("It is approved and not released. If there is doubt, deny it now: the button is on the page.",),
    "consumed": (
        "It was released. If there is doubt, call the bank at once and ask for a recall; then tell the police.",
        "Keep the recording of the call as it is, and do not play it to others.",
    ),
    "denied": ("Nothing was released. Tell whoever filed it, in person; they were deceived, not guilty.",),
    "expired": ("Nobody confirmed it in time. Ask the person in whose name it is whether they know of it.",),
}
ALARM = "An approver answered under duress: do not call them by the channel of the call. See to their safety first."


def build_case(desk: Desk, request: str, recordings: Iterable[Path] = ()) -> str:
    """The case of a request as signed canonical JSON. Raises `Problem`, and the errors of `verify`."""
    from sorano import __version__
    from sorano.trust.verify import verify

    shown = desk.confirm.get(request, None)
    with desk.database.read() as connection:
        lines = [row.line for row in connection.execute(sa.select(receipts.c.line).order_by(receipts.c.seq))]
    trail = [words for words in map(json.loads, lines) if words["subject"] == request]
    call = shown["call_id"]
    media = [
        {"file": path.name, "sha256": sha256(path), "report": verify(path).to_dict(), **read_timeline(path, call)}
        for path in recordings
    ]
    words = {
        "type": TYPE,
        "made_at": f"{datetime.fromtimestamp(desk.ledger.clock.read().wall, UTC):%Y-%m-%dT%H:%M:%SZ}",
        "origin": desk.settings.origin,
        "request": shown,
        "receipts": trail,
        "recordings": media,
        "policy": describe_policy(desk.policy),
        "findings": [one.to_dict() for one in examine(desk)],
        "next_steps": [*([ALARM] if shown.get("is_duress") else []), *NEXT[shown["status"]]],
        "versions": {"sorano": __version__, "python": platform.python_version()},
    }
    return signed(words, keys.identity())


def read_timeline(recording: Path, call: str | None) -> dict[str, Any]:
    """The timeline of a call that `sorano desk record` wrote beside a recording of it.

    None where it is of another call or of other bytes, or where this desk did not sign it.
    """
    beside = recording.with_name(recording.name + SUFFIX)
    if not beside.exists() or beside.stat().st_size > MOST_TIMELINE_BYTES:
        return {}
    try:
        told = json.loads(beside.read_bytes())
        check_signature(told, beside.name, None, None)  # whoever recorded has keys of their own
        timeline = told["timeline"]
        fits = told["type"] == RECORDING and told["sha256"] == sha256(recording)
        fits = fits and timeline["type"] == TIMELINE and timeline["call"] == call and _is_own(timeline, beside.name)
        return {"timeline": timeline if fits else None}
    except (ValueError, KeyError, TypeError, AttributeError, TrustError):
        return {"timeline": None}


def _is_own(words: dict[str, Any], where: str) -> bool:
    """Whether words are signed under a root of this user, who is the desk: the present one, or one before it."""
    for root in {keys.export(), *keys.own_roots()}:
        with suppress(TrustError):
            check_signature(words, where, None, root)
            return True
    return False
