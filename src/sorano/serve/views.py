"""Objects as the API shows them: OpenAI's keys, all of them always there, and ours beside them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sorano.serve.maker import sheet_layout
from sorano.serve.posts import COMPLETED, QUEUED, RUNNING, Row
from sorano.serve.store import SPRITESHEET, THUMBNAIL
from sorano.web.chinese import message_in_chinese


def video(row: Row, ahead: Mapping[str, tuple[int, float]] | None = None, num_workers: int = 1) -> dict[str, Any]:
    """A job as OpenAI's video object, with more keys."""
    shown, name = row["shown"], row["id"]
    place = (ahead or {}).get(name)
    return {
        # OpenAI's
        "id": name,
        "object": "video",
        "model": row["model"],
        "status": row["status"],
        "progress": row["progress"],
        "created_at": int(row["created_at"]),
        "completed_at": None if row["completed_at"] is None or row["status"] != COMPLETED else int(row["completed_at"]),
        "expires_at": None if row["expires_at"] is None else int(row["expires_at"]),
        "prompt": shown.get("prompt"),
        "size": shown.get("size"),
        "seconds": f"{shown.get('seconds', 0):g}",
        "remixed_from_video_id": row["remixed_from"],
        "error": None if row["error_code"] is None else {"code": row["error_code"], "message": row["error_message"]},
        # ours
        "preset": preset_name(row["preset"]),
        "native_size": shown.get("native_size"),
        "num_frames": shown.get("num_frames"),
        "fps": shown.get("fps"),
        "seed": shown.get("seed"),
        "negative_prompt": shown.get("negative_prompt"),
        "notes": shown.get("notes", []),
        "made_from": shown.get("made_from", []),
        "priority": row["priority"],
        "is_paused": bool(row["is_paused"]),
        "queue_position": None if place is None else place[0] + 1,
        "seconds_left": seconds_left(row, place, num_workers),
        "planned_seconds": row["planned_seconds"],
        "stage": row["stage"],
        "step": row["step"],
        "num_steps": row["num_steps"],
        "attempts": row["attempts"],
        "preview_url": preview_url(row),
        "group_id": row["group_id"],
        "variants": variants(row),
        "spritesheet": sheet_layout(shown["size"]) if SPRITESHEET in (row["files"] or {}) else None,
        "verdict": (row["result"] or {}).get("verdict"),
        "mark_id": (row["result"] or {}).get("mark_id"),
        "measured": measured(row),
    }


def preset_name(preset: str) -> str:
    """A preset as clients see it: of a folder of the operator's its name, and not where it is on the machine."""
    return Path(preset).name if Path(preset).is_absolute() else preset


def in_chinese(shown: dict[str, Any]) -> dict[str, Any]:
    """A video or a plan whose sentences are in Chinese."""
    told = {**shown, "notes": [message_in_chinese(one) for one in shown["notes"]]}
    if (error := shown.get("error")) is not None:
        told["error"] = {**error, "message": message_in_chinese(error["message"], error["code"])}
    if (planned := shown.get("planned")) is not None and not planned["fits"]:
        said = {name: message_in_chinese(planned[name] or "") for name in ("problem", "hint")}
        told["planned"] = {**planned, **said}
    return told


def variants(row: Row) -> list[str]:
    """What `/content` has of a job."""
    if row["status"] != COMPLETED:
        return []
    files = row["files"] or {}
    return [
        "video",
        *(kind for kind, name in (("thumbnail", THUMBNAIL), ("spritesheet", SPRITESHEET)) if name in files),
    ]


def measured(row: Row) -> dict[str, Any] | None:
    """What a run took."""
    result = row["result"]
    if not result:
        return None
    return {name: result.get(name) for name in ("seconds", "stages", "peak_bytes", "device")}


def preview_url(row: Row) -> str | None:
    """Where a running job's newest preview is."""
    if row["status"] != RUNNING or row["preview_step"] is None:
        return None
    return f"/v1/videos/{row['id']}/preview?step={row['preview_step']}"


def seconds_left(row: Row, place: tuple[int, float] | None, num_workers: int) -> float | None:
    """About how long a job still takes; None where nothing says."""
    own = row["planned_seconds"]
    if row["status"] == RUNNING and row["started_at"] is not None:
        elapsed = time.time() - row["started_at"]
        if row["progress"] >= 10:
            return round(max(0.0, elapsed / row["progress"] * (100 - row["progress"])), 1)
        return None if own is None else round(own, 1)  # loading is not in the plan
    if row["status"] == QUEUED and own is not None and place is not None and not row["is_paused"]:
        return round(place[1] / max(1, num_workers) + own, 1)
    return None


def page(rows: Sequence[dict[str, Any]], has_more: bool) -> dict[str, Any]:
    """A page of a list."""
    first, last = (rows[0]["id"], rows[-1]["id"]) if rows else (None, None)
    return {"object": "list", "data": list(rows), "first_id": first, "last_id": last, "has_more": has_more}


def upload(row: Row) -> dict[str, Any]:
    """An upload as OpenAI's file object."""
    return {
        "id": row["id"],
        "object": "file",
        "bytes": row["bytes"],
        "created_at": int(row["created_at"]),
        "expires_at": None if row["expires_at"] is None else int(row["expires_at"]),
        "filename": row["name"],
        "purpose": row["purpose"],
        "status": "processed",
        **row["found"],
    }


def endpoint(row: Row) -> dict[str, Any]:
    """A webhook endpoint, without its secret."""
    return {
        "id": row["id"],
        "object": "webhook_endpoint",
        "name": row["name"],
        "url": row["url"],
        "event_types": row["event_types"],
        "created_at": int(row["created_at"]),
        "updated_at": int(row["updated_at"]),
        "signing_secret_hint": f"{row['secret'][:8]}...{row['secret'][-4:]}",
    }


def delivery(row: Row) -> dict[str, Any]:
    """A line of the delivery log."""
    state = "delivered" if row["delivered_at"] is not None else "waiting" if row["next_at"] is not None else "given_up"
    return {
        "id": row["id"],
        "object": "webhook_delivery",
        "type": row["type"],
        "state": state,
        "attempts": row["attempts"],
        "status_code": row["status_code"],
        "error": row["error"],
        "created_at": int(row["created_at"]),
        "delivered_at": None if row["delivered_at"] is None else int(row["delivered_at"]),
        "next_at": None if row["next_at"] is None else int(row["next_at"]),
    }
