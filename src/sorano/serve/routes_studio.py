"""What the studio's page asks beside the API: words, how a prompt is read, a job's own request, flashes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Query
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from sorano.prompt_editing import read_prompt
from sorano.serve.posts import COMPLETED, Row
from sorano.serve.schema import CREATE, map_files
from sorano.web.forms import body_of
from sorano.web.problems import Problem, not_found

if TYPE_CHECKING:
    from sorano.presets import Preset
    from sorano.serve.parts import Api

MOST_PROMPT = 32_000
OF_FIELD = {one.becomes: name for name, one in CREATE.items() if one.becomes is not None}


def router(api: Api) -> APIRouter:
    """The routes, below /v1/studio."""
    routes = APIRouter(prefix="/v1/studio", tags=["studio"])

    @routes.get("/words")
    def words(request: HttpRequest, model: str | None = Query(None, max_length=200)) -> Response:
        """The words that a model of a small vocabulary knows, in groups and languages; none for others."""
        api.caller(request, "read")
        preset = _preset(api, model)
        groups = preset.captions.phrases() if preset.captions is not None else {}
        return JSONResponse({"object": "words", "is_small": preset.small_vocabulary, "groups": groups})

    @routes.post("/reading")
    async def reading(request: HttpRequest) -> Response:
        """How a model reads a prompt: what it leaves out, and which everyday words it takes for its own."""
        api.caller(request, "read")
        async with body_of(request) as body:
            return JSONResponse(await run_in_threadpool(_read, api, body))

    @routes.get("/videos/{video_id}/request")
    def own_request(request: HttpRequest, video_id: str) -> Response:
        """What a video was asked for with, as a body of POST /v1/videos."""
        caller = api.caller(request, "read")
        row = api.service.jobs.get(video_id, caller.sees)
        return JSONResponse({"object": "request", "id": row["id"], "body": body_of_job(row)})

    @routes.get("/videos/{video_id}/flashes")
    async def flashes(request: HttpRequest, video_id: str) -> Response:
        """Whether a finished video flashes more than three times in a second."""
        return JSONResponse(await api.in_thread_with_files(found_flashes, request, video_id))

    def found_flashes(request: HttpRequest, video_id: str) -> dict[str, Any]:
        caller = api.caller(request, "read")
        row = api.service.jobs.get(video_id, caller.sees)
        if row["status"] != COMPLETED:
            raise Problem("not_ready", f"{video_id} is {row['status']}", "wait until it is completed")
        path = api.service.store.video(row["id"], row["epoch"])
        if not path.is_file():
            raise not_found("video", video_id)
        return {"object": "flashes", **_flashes(path)}

    return routes


def body_of_job(row: Row) -> dict[str, Any]:
    """A job's words as the API takes them, each file by its id."""
    words = map_files(row["words"], _id_of)
    body = {OF_FIELD[name]: value for name, value in words.items() if name in OF_FIELD and value is not None}
    return {"model": row["model"], **body}


def _id_of(reference: Any) -> str:
    kind, _, place = str(reference).partition(":")
    return place.partition("/")[0] if kind == "video" else place.partition(".")[0]


def _preset(api: Api, model: str | None) -> Preset:
    from sorano.presets import find_preset

    return find_preset(api.orders.preset_of(model)[1])


def _read(api: Api, body: Mapping[str, Any]) -> dict[str, Any]:
    prompt = body.get("prompt")
    if not isinstance(prompt, str) or len(prompt) > MOST_PROMPT:
        raise Problem(
            "invalid_type", f"prompt is text of at most {MOST_PROMPT} characters", "shorten it", param="prompt"
        )
    model = body.get("model")
    preset = _preset(api, model if isinstance(model, str) else None)
    told: dict[str, Any] = {"object": "reading", "unknown": [], "near": {}, "read_as": [], "has_thing": True}
    found = read_prompt(preset, prompt)
    if found is None:
        return told
    return {
        **told,
        "unknown": list(found.unknown),
        "near": dict(found.near),
        "read_as": [list(pair) for pair in found.read_as],
        "has_thing": found.has_thing,
    }


@lru_cache(maxsize=2000)
def _flashes(path: Path) -> dict[str, Any]:
    from sorano.serve.flashes import flashes_of

    found = flashes_of(path)
    return {"general": found.general, "red": found.red, "is_safe": found.is_safe}
