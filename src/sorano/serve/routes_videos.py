"""The routes of videos: OpenAI's, and ours beside them."""

from __future__ import annotations

import asyncio
import base64
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from fastapi import APIRouter, Query
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as HttpRequest
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse

from sorano.errors import SoranoError
from sorano.serve import schema, views
from sorano.serve.assets import storage_problem, suffix_of
from sorano.serve.chinese_report import report_in_chinese
from sorano.serve.keys import Caller
from sorano.serve.ordering import Sent
from sorano.serve.parts import Api
from sorano.serve.posts import COMPLETED, Row
from sorano.serve.store import PREVIEW, VARIANTS
from sorano.web.forms import Upload, body_of
from sorano.web.problems import Problem, not_found, problem_of

POLL_MS = {"queued": "1000", "in_progress": "500"}
BYTES = re.compile(r"([0-9]{0,18})-([0-9]{0,18})")  # one range of bytes
MOST_FILES = 10_000  # of one page, as at OpenAI
VARIANT_SECONDS = 15.0  # that `/content` waits for a thumbnail that is being made
INSTEAD = {
    "characters": "give pictures of the character as keyframes: conditions=[{kind: keyframe, image, seconds}]",
    "batches": "send each request to /v1/videos: the queue takes thousands, and n makes variations",
}
WITH_FILES = ("input_reference", "last_frame", "conditions", "storyboard", "video", "mask")  # what names them
T = TypeVar("T")
Submit = Callable[[Mapping[str, Any], Caller, Sent], list[Row]]


def router(api: Api) -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix="/v1")
    _add_making(routes, api)
    _add_looking(routes, api)
    _add_content(routes, api)
    _add_queue(routes, api)
    _add_files(routes, api)
    _add_models(routes, api)
    return routes


def _add_making(routes: APIRouter, api: Api) -> None:
    async def in_thread(body: Mapping[str, Any], call: Callable[..., T], *given: Any) -> T:
        run = api.in_thread_with_files if any(name in body for name in WITH_FILES) else run_in_threadpool
        return await run(call, *given)

    async def made(request: HttpRequest, submit: Submit, *, with_files: bool = False) -> Response:
        caller = api.caller(request, "write")
        sent = Sent(_key(request), request.headers.get("x-stainless-retry-count", "0") not in ("0", ""), _path(request))
        async with body_of(request) as body:
            given = (request, body, caller, sent, submit)
            return await (api.in_thread_with_files(answer, *given) if with_files else in_thread(body, answer, *given))

    def answer(request: HttpRequest, body: Mapping[str, Any], caller: Caller, sent: Sent, submit: Submit) -> Response:
        rows = submit(body, caller, sent)
        video = api.shown(request, rows[:1])[0]
        if len(rows) > 1:
            video["variations"] = [row["id"] for row in rows]
        return _with_poll(video)

    @routes.post("/videos", openapi_extra=_body(schema.CREATE, ("prompt",)), tags=["videos"])
    async def create_video(request: HttpRequest) -> Response:
        """Make a video. Answers at once with a job that is durable."""
        return await made(request, api.orders.create)

    @routes.post("/videos/edits", openapi_extra=_body(schema.EDIT, ("prompt", "video")), tags=["videos"])
    async def edit_video(request: HttpRequest) -> Response:
        """Change a video by words: all of it, or a region."""
        return await made(request, api.orders.edit)

    @routes.post("/videos/extensions", openapi_extra=_body(schema.EXTEND, ("video",)), tags=["videos"])
    async def extend_video(request: HttpRequest) -> Response:
        """Go on with a video, or go back before it. `seconds` is what is added."""
        return await made(request, api.orders.extend)

    @routes.post("/videos/{video_id}/remix", openapi_extra=_body(schema.REMIX, ("prompt",)), tags=["videos"])
    async def remix_video(request: HttpRequest, video_id: str) -> Response:
        """Make a finished video again with changes."""
        return await made(request, lambda *given: api.orders.remix(video_id, *given), with_files=True)

    @routes.post("/plan", openapi_extra=_body(schema.CREATE, ("prompt",)), tags=["planning"])
    async def plan_video(request: HttpRequest) -> Response:
        """What a video would be, and what it would take; nothing is made."""
        caller = api.caller(request, "read")
        async with body_of(request) as body:
            plan = await in_thread(body, api.orders.plan, body, caller)
        return JSONResponse(views.in_chinese(plan) if api.reads_chinese(request) else plan)

    @routes.api_route("/videos/characters", methods=["GET", "POST"], include_in_schema=False)
    @routes.api_route("/videos/characters/{name}", methods=["GET", "DELETE"], include_in_schema=False)
    @routes.api_route("/batches", methods=["GET", "POST"], include_in_schema=False)
    @routes.api_route("/batches/{rest:path}", methods=["GET", "POST"], include_in_schema=False)
    async def unsupported(request: HttpRequest) -> Response:
        """What OpenAI had and this server has not: 400, with what to use instead."""
        what = "batches" if "batches" in request.url.path else "characters"
        raise Problem("unsupported", f"this server has no {what}", INSTEAD[what])


def _add_looking(routes: APIRouter, api: Api) -> None:
    @routes.get("/videos", tags=["videos"])
    def list_videos(
        request: HttpRequest,
        after: str | None = None,
        limit: int = Query(20, ge=0, le=100),
        order: str = Query("desc", pattern="^(asc|desc)$"),
    ) -> Response:
        """The caller's videos, newest first."""
        caller = api.caller(request, "read")
        rows, more = api.service.jobs.page(caller.sees, after=after, limit=limit, ascending=order == "asc")
        return JSONResponse(views.page(api.shown(request, rows), more))

    @routes.get("/videos/{video_id}", tags=["videos"])
    def retrieve_video(request: HttpRequest, video_id: str) -> Response:
        """A video as it stands."""
        caller = api.caller(request, "read")
        return _with_poll(api.shown(request, [api.service.jobs.get(video_id, caller.sees)])[0])

    @routes.delete("/videos/{video_id}", tags=["videos"])
    def delete_video(request: HttpRequest, video_id: str) -> Response:
        """Remove a video and its files; one that runs is cancelled first."""
        caller = api.caller(request, "write")
        api.service.jobs.delete(video_id, caller.sees, by=caller.owner)
        api.service.store.remove_job(video_id)
        return JSONResponse({"id": video_id, "object": "video.deleted", "deleted": True})

    @routes.post("/videos/{video_id}/cancel", tags=["queue"])
    def cancel_video(request: HttpRequest, video_id: str) -> Response:
        """Stop a video that waits or is being made: it fails with the code `cancelled`."""
        caller = api.caller(request, "write")
        row = api.service.jobs.cancel(video_id, caller.sees, by=caller.owner)
        return _with_poll(api.shown(request, [row])[0])

    @routes.get("/videos/{video_id}/events", tags=["videos"])
    async def video_events(request: HttpRequest, video_id: str) -> Response:
        """Server-sent events: video.progress until video.completed, video.failed or video.deleted."""
        caller = api.caller(request, "read")
        api.events.require_room()
        row = await run_in_threadpool(api.service.jobs.get, video_id, caller.sees)
        first = (await run_in_threadpool(api.orders.shown, [row]))[0]
        stream = api.events.stream(video_id, first, in_chinese=api.reads_chinese(request))
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(stream, media_type="text/event-stream", headers=headers)


def _add_content(routes: APIRouter, api: Api) -> None:
    @routes.head("/videos/{video_id}/content", include_in_schema=False)
    @routes.get("/videos/{video_id}/content", tags=["videos"])
    async def video_content(
        request: HttpRequest,
        video_id: str,
        variant: str = Query("video", pattern="^(video|thumbnail|spritesheet)$"),
    ) -> Response:
        """The MP4, a thumbnail (WebP) or a sprite sheet (JPEG); ranges are answered, and 304 to who has it already."""
        caller = await run_in_threadpool(api.caller, request, "read")
        name, kind = VARIANTS[variant]
        row = await run_in_threadpool(api.service.jobs.get, video_id, caller.sees)
        end = time.monotonic() + VARIANT_SECONDS
        while not _has_variant(row, name):
            if time.monotonic() > end:
                raise Problem("not_ready", f"{variant} is still being made", "ask again in a moment", retry_after=2)
            await asyncio.sleep(0.2)
            row = await run_in_threadpool(api.service.jobs.get, video_id, caller.sees)
        path = api.service.store.video(row["id"], row["epoch"], name)
        if not path.is_file():
            raise not_found(f"{variant} of video", video_id)
        tag = f'"{row["files"][name]["sha256"][:32]}"'
        headers = {"etag": tag, "cache-control": "private, no-cache"}  # asked each time: it may be taken down
        if tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        keep_good_range(request, path.stat().st_size)
        filename = f"{row['id']}{path.suffix}"
        return FileResponse(
            path, media_type=kind, filename=filename, content_disposition_type="inline", headers=headers
        )

    @routes.get("/videos/{video_id}/preview", tags=["videos"])
    def video_preview(request: HttpRequest, video_id: str) -> Response:
        """About what the first frame of a running video will be (WebP)."""
        caller = api.caller(request, "read")
        row = api.service.jobs.get(video_id, caller.sees)
        path = api.service.store.work_folder(row["id"], row["epoch"]) / PREVIEW
        try:
            return Response(path.read_bytes(), media_type="image/webp", headers={"cache-control": "no-store"})
        except OSError as error:
            raise not_found("preview of video", video_id) from error


def _add_queue(routes: APIRouter, api: Api) -> None:
    @routes.post("/videos/{video_id}", openapi_extra=_body(schema.CHANGE), tags=["queue"])
    async def change_video(request: HttpRequest, video_id: str) -> Response:
        """Change a request while it waits."""
        caller = api.caller(request, "write")
        async with body_of(request) as body:
            row = await api.in_thread_with_files(api.orders.change, video_id, body, caller)
        return JSONResponse((await run_in_threadpool(api.shown, request, [row]))[0])

    @routes.post("/videos/{video_id}/pause", tags=["queue"])
    def pause_video(request: HttpRequest, video_id: str) -> Response:
        """Let a queued video wait until it is resumed."""
        caller = api.caller(request, "write")
        row = api.service.jobs.change(video_id, caller.sees, by=caller.owner, is_paused=True)
        return JSONResponse(api.shown(request, [row])[0])

    @routes.post("/videos/{video_id}/resume", tags=["queue"])
    def resume_video(request: HttpRequest, video_id: str) -> Response:
        """End a pause."""
        caller = api.caller(request, "write")
        row = api.service.jobs.change(video_id, caller.sees, by=caller.owner, is_paused=False)
        return JSONResponse(api.shown(request, [row])[0])

    @routes.post("/videos/{video_id}/move", tags=["queue"])
    def move_video(request: HttpRequest, video_id: str, to: str = Query("up", pattern="^(up|top)$")) -> Response:
        """Move a queued video before the one ahead of it, or before all of the caller's."""
        caller = api.caller(request, "write")
        return JSONResponse(api.shown(request, [api.service.jobs.move(video_id, caller.sees, to_top=to == "top")])[0])


def _add_files(routes: APIRouter, api: Api) -> None:
    @routes.post("/files", openapi_extra=_file_body(), tags=["files"])
    async def create_file(request: HttpRequest) -> Response:
        """Keep a picture or a video, to be named by its id."""
        caller = api.caller(request, "write")
        async with body_of(request) as body:
            file = body.get("file")
            if not isinstance(file, Upload):
                raise Problem("missing_required_parameter", "file is missing", "send multipart/form-data", param="file")
            purpose = str(body.get("purpose") or "vision")[:40]
            if purpose == "input":
                purpose = "vision"
            keep = api.service.assets.keep
            row = await api.in_thread_with_files(keep, file.file, file.name, caller.owner, purpose)
        return JSONResponse(views.upload(row))

    @routes.get("/files", tags=["files"])
    def list_files(
        request: HttpRequest,
        after: str | None = None,
        limit: int = Query(MOST_FILES, ge=1, le=MOST_FILES),
        order: str = Query("desc", pattern="^(asc|desc)$"),
        purpose: str | None = Query(None, max_length=40),
    ) -> Response:
        """The caller's uploads, newest first; those of the purpose `input` came with a video's request."""
        caller = api.caller(request, "read")
        rows, more = api.service.assets.page(
            caller.sees, after=after, limit=limit, ascending=order == "asc", purpose=purpose
        )
        return JSONResponse(views.page([views.upload(row) for row in rows], more))

    @routes.get("/files/{file_id}", tags=["files"])
    def retrieve_file(request: HttpRequest, file_id: str) -> Response:
        """An upload's record."""
        caller = api.caller(request, "read")
        return JSONResponse(views.upload(api.service.assets.get(file_id, caller.sees)))

    @routes.delete("/files/{file_id}", tags=["files"])
    def delete_file(request: HttpRequest, file_id: str) -> Response:
        """Remove an upload."""
        caller = api.caller(request, "write")
        api.service.assets.delete(file_id, caller.sees, by=caller.owner)
        return JSONResponse({"id": file_id, "object": "file", "deleted": True})

    @routes.post("/verify", openapi_extra=_file_body(), tags=["trust"])
    async def verify_file(request: HttpRequest) -> Response:
        """Where a file came from: the verdict and its evidence, and with map=true where it was changed."""
        caller = api.caller(request, "read")
        async with body_of(request) as body:
            report = await api.in_thread_with_files(_verified, api, body, caller)
        return JSONResponse(report_in_chinese(report) if api.reads_chinese(request) else report)


def _add_models(routes: APIRouter, api: Api) -> None:
    @routes.get("/models", tags=["models"])
    def list_models(request: HttpRequest) -> Response:
        """The models that are on this server; the first is the default."""
        api.caller(request, "read")
        found = [_model(name, preset) for name, preset in api.orders.models().items()]
        return JSONResponse({"object": "list", "data": found})

    @routes.get("/models/{name:path}", tags=["models"])
    def retrieve_model(request: HttpRequest, name: str, words: bool = False) -> Response:
        """A model; with words=true also the words that it knows, where these are few."""
        api.caller(request, "read")
        preset = api.orders.models().get(name)
        if preset is None:
            raise not_found("model", name)
        return JSONResponse(_model(name, preset, with_words=words))


def _with_poll(video: dict[str, Any]) -> Response:
    """A video, and to clients that poll when to ask again."""
    wait = POLL_MS.get(video["status"])
    return JSONResponse(video, headers={} if wait is None else {"openai-poll-after-ms": wait})


def keep_good_range(request: HttpRequest, size: int) -> None:
    """Lets the header Range of a request be forgotten where it is malformed (RFC 9110, 14.2).

    Raises `Problem` for a range that begins behind the end.
    """
    given = request.headers.get("range")
    if given is None:
        return
    ranges = [BYTES.fullmatch(one.strip()) for one in given.removeprefix("bytes=").split(",")]
    pairs = [(one[1], one[2]) for one in ranges if one is not None and (one[1] or one[2])]
    is_good = given.startswith("bytes=") and len(pairs) == len(ranges)
    if not is_good or any(first and last and int(first) > int(last) for first, last in pairs):
        request.scope["headers"] = [one for one in request.scope["headers"] if one[0] != b"range"]
    elif all(first and int(first) >= size for first, _ in pairs):
        raise Problem(
            "range_not_satisfiable", f"the file has {size} bytes", "ask for a range that begins before its end"
        )


def _has_variant(row: Row, name: str) -> bool:
    """Whether a finished job has one of its files; False while that is made. Raises `Problem` where it will not be."""
    if row["status"] != COMPLETED:
        said = f"{row['id']} is {row['status']}"
        raise Problem("not_ready", said, row["error_message"] or "wait until it is completed")
    if name in row["files"]:
        return True
    if row["variants"] not in ("pending", "making"):
        raise not_found(f"{name} of video", row["id"])
    return False


def _verified(api: Api, body: Mapping[str, Any], caller: Caller) -> dict[str, Any]:
    """The report on an upload, or on a file or video that is here. The file is read in a child process."""
    from sorano.trust.verify import examine

    known = [name for name in ("file", "file_id", "id") if body.get(name) is not None]
    unknown = [name for name in body if name not in ("file", "file_id", "id", "map")]
    if unknown:
        name, hint = unknown[0][:80], "known are file, file_id, id, map"
        raise Problem("unknown_parameter", f"there is no parameter {name!r}", hint, param=name)
    if len(known) != 1:
        raise Problem(
            "missing_required_parameter", "say which file", "send file, file_id, or the id of a video", param="file"
        )
    given = body[known[0]]
    with_map = schema.flag(body.get("map", False), "map")
    keep: Path | None = None
    if known[0] == "file":
        if not isinstance(given, Upload):
            raise Problem("invalid_type", "file is an upload", "send multipart/form-data", param="file")
        name = Path(given.name).name[:200] or "upload"
        keep = path = _spooled(api, given)
    elif known[0] == "file_id":
        row = api.service.assets.get(str(given), caller.sees)
        name, path = row["name"], api.service.store.upload(row["stored"])
    else:
        row = api.service.jobs.get(str(given), caller.sees)
        _has_variant(row, VARIANTS["video"][0])
        name, path = f"{row['id']}.mp4", api.service.store.video(row["id"], row["epoch"])
    try:
        with api.looks:
            report, found = examine(path, with_map=with_map)
    except SoranoError as error:
        said = problem_of(error, known[0])
        said.message = said.message.replace(str(path), name)
        raise said from error
    finally:
        if keep is not None:
            keep.unlink(missing_ok=True)
    words = {"object": "verification", **report.to_dict(), "path": name, "exit_code": report.verdict.exit_code}
    words["lines"] = [line.replace(str(path), name) for line in report.lines()]
    if found is not None:
        # bytes from 0 (intact) to 255 (changed), slot by slot, row by row
        bytes_THW = (found.map_THW.clip(0, 1) * 255).round().astype("uint8")
        words["map"] = {
            "shape": list(bytes_THW.shape),
            "starts": list(found.starts_s),
            "ends": list(found.ends_s),
            "data": base64.b64encode(bytes_THW.tobytes()).decode(),
        }
    return words


def _spooled(api: Api, given: Upload) -> Path:
    """An upload as a file, under a name of ours."""
    import shutil

    _, path = api.service.store.new_upload(suffix_of(given.name))
    given.file.seek(0)
    try:
        with open(path, "xb") as target:
            path.chmod(0o600)
            shutil.copyfileobj(given.file, target)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise storage_problem(error) from error
    return path


def _model(name: str, preset: str, *, with_words: bool = False) -> dict[str, Any]:
    from sorano.presets import find_preset

    found = find_preset(preset)
    told: dict[str, Any] = {
        "id": name,
        "object": "model",
        "created": 0,
        "owned_by": found.repo.split("/")[0] if found.repo else "sorano",
        "licence": found.licence,
        "size": found.size,
        "sizes": list(found.sizes or (found.size,)),
        "fps": found.fps,
        "num_frames": found.num_frames,
        "seconds": round(found.num_frames / found.fps, 3),
        "most_num_frames": found.max_num_frames,
        "num_steps": found.num_steps,
        "guidance": found.guidance,
        "small_vocabulary": found.small_vocabulary,
    }
    if with_words:
        known = found.captions.words if found.captions is not None else frozenset()
        told["words"] = sorted(word.strip("▁Ġ") for word in known if word.strip("▁Ġ").isalpha())
    return told


def _key(request: HttpRequest) -> str | None:
    key = request.headers.get("idempotency-key")
    if key is not None and not 0 < len(key) <= 255:
        raise Problem("invalid_value", "an Idempotency-Key has 1 to 255 characters", "send a shorter one")
    return key


def _path(request: HttpRequest) -> str:
    return request.url.path


def _body(fields: Mapping[str, schema.Field], required: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"requestBody": schema.body_schema(fields, required)}


def _file_body() -> dict[str, Any]:
    properties = {"file": {"type": "string", "format": "binary"}, "purpose": {"type": "string"}}
    form = {"type": "object", "properties": properties, "required": ["file"]}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": form}}}}
