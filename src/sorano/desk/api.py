"""The HTTP application of a desk: people by a session of their passkey, machines by a key of some scope.

POST   /requests                          file one            session with the role file, or key: file
GET    /requests, /requests/ID            look                session, or the key that filed it
POST   /requests/ID/ceremony, /approve, /duress, /code, /deny  answer        session
GET    /requests/ID/exact                 the bytes           key: execute
POST   /requests/ID/consume, /redeem      release             key: execute
POST   /calls                             a call's verdict    key: guard
POST   /ask                               a question          session
/rooms                                    calls               sorano.desk.call.api
GET    /receipts                          signed export       session with the role admin, or key: audit
/session, /people, /tickets, /enrol       who is who          see docs/desk.md
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from fastapi import APIRouter, FastAPI
from fastapi.staticfiles import StaticFiles
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from sorano.desk.call.api import CallRoutes
from sorano.desk.call.guard import CallGuard
from sorano.desk.call.media import CallMedia
from sorano.desk.confirm import PENDING
from sorano.desk.fields import LIMITS
from sorano.desk.passkeys import SIGN_IN
from sorano.desk.policy import VERDICTS, describe_policy
from sorano.desk.service import Desk
from sorano.desk.tables import requests
from sorano.files import canonical
from sorano.web import SHARED_PAGE
from sorano.web.answers import answer_problems
from sorano.web.forms import body_of
from sorano.web.guard import Guard
from sorano.web.metrics import HttpMetrics
from sorano.web.problems import Problem, not_found

PAGE = Path(__file__).parent / "page"


def create_app(desk: Desk) -> FastAPI:
    """The application of an open desk."""
    from sorano import __version__

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        stop = desk.start()
        yield
        await media.close()
        await run_in_threadpool(stop)

    media = CallMedia(CallGuard(desk))
    app = FastAPI(
        title="Sorano desk",
        version=__version__,
        lifespan=life,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        description="Risky requests, confirmed on enrolled devices outside the call that they came from.",
    )
    app.state.desk, app.state.calls = desk, media
    routes = APIRouter()
    for part in (_Requests, _Releases, _People, _Tickets, _Enrolments, _Sessions):
        part(desk).add(routes)
    metrics = HttpMetrics()
    _add_operation(routes, desk, metrics)
    asks = _Routes(desk)
    CallRoutes(media, asks.person, asks.key, _json).add(routes)
    app.include_router(routes)
    app.mount("/web", StaticFiles(directory=SHARED_PAGE), name="shared")
    app.mount("/", StaticFiles(directory=PAGE, html=True), name="page")
    answer_problems(app)
    app.add_middleware(Guard, settings=desk.settings, metrics=metrics)
    return app


class _Routes:
    """Some routes of one desk, and who asks for them."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    def add(self, routes: APIRouter) -> None:
        """Add them to a router."""

    @property
    def cookie(self) -> str:
        """The session's cookie; with the prefix that browsers guard where there is https."""
        return "__Host-desk" if self.desk.settings.origin.startswith("https") else "desk"

    def person(self, request: HttpRequest, role: str | None = None) -> sa.RowMapping:
        """Who is signed in. Raises `Problem`, also where they lack a role."""
        row = self.desk.directory.session(request.cookies.get(self.cookie))
        request.scope["sorano_caller"] = row["id"]
        if role is not None and role not in row["roles"]:
            raise Problem("insufficient_scope", f"you have not the role {role}", "an administrator can give it")
        return row

    def key(self, request: HttpRequest, scope: str) -> str:
        """The id of a key with a scope. Raises `Problem`."""
        kind, _, key = request.headers.get("authorization", "").partition(" ")
        row = self.desk.keys.find(key.strip() if kind.lower() == "bearer" else None)
        request.scope["sorano_caller"] = row["id"]
        if scope not in row["scopes"]:
            raise Problem(
                "insufficient_scope", f"this key may not {scope}", f"its scopes are {', '.join(row['scopes'])}"
            )
        return str(row["limits"].get("owner") or row["id"])

    @staticmethod
    def has_key(request: HttpRequest) -> bool:
        """Whether a machine asks."""
        return "authorization" in request.headers


class _Requests(_Routes):
    def add(self, routes: APIRouter) -> None:
        confirm = self.desk.confirm

        @routes.post("/requests", tags=["requests"])
        async def file(request: HttpRequest) -> Response:
            """File a request."""
            by = await run_in_threadpool(self._filer, request)
            async with _json(request) as body:
                made = await run_in_threadpool(confirm.file, body, by)
            return JSONResponse(made, status_code=201)

        @routes.get("/requests", tags=["requests"])
        def look(request: HttpRequest) -> Response:
            """The newest requests that the caller may see."""
            return JSONResponse({"object": "list", "data": confirm.newest(self.person(request))})

        @routes.get("/requests/{name}", tags=["requests"])
        def get(request: HttpRequest, name: str) -> Response:
            """One request."""
            if not self.has_key(request):
                return JSONResponse(confirm.get(name, self.person(request)))
            owner = self.key(request, "file")
            found = confirm.get(name, None)
            if found["filed_by"] != owner:
                raise not_found("request", name)
            return JSONResponse(found)

        @routes.post("/requests/{name}/ceremony", tags=["requests"])
        def begin(request: HttpRequest, name: str) -> Response:
            """Begin an approval: what the passkey signs, and whose last four digits are to be typed."""
            return JSONResponse(confirm.begin_approval(name, self.person(request)))

        @routes.post("/requests/{name}/{answer}", tags=["requests"])
        async def answer(request: HttpRequest, name: str, answer: str) -> Response:
            """Answer: approve, duress (which looks the same), code, deny; or consume, for the executor."""
            if answer == "consume":
                await run_in_threadpool(self.key, request, "execute")
                async with _json(request) as body:
                    exact = _exact(body)
                    return JSONResponse(await run_in_threadpool(confirm.consume, name, exact))
            who = await run_in_threadpool(self.person, request)
            async with _json(request) as body:
                return JSONResponse(await run_in_threadpool(self._answer, name, answer, who, body))

    def _answer(self, name: str, answer: str, who: sa.RowMapping, body: dict[str, Any]) -> dict[str, Any]:
        confirm = self.desk.confirm
        if answer in ("approve", "duress"):
            given = (body.get("ceremony"), body.get("digits"), body.get("credential"))
            return confirm.approve(name, who, *given, duress=answer == "duress")
        if answer == "code":
            return confirm.approve_by_code(name, who, body.get("digits"), body.get("code"))
        if answer == "deny":
            return confirm.deny(name, who)
        raise not_found("answer", answer)

    def _filer(self, request: HttpRequest) -> str:
        return self.key(request, "file") if self.has_key(request) else str(self.person(request, "file")["id"])


class _Releases(_Routes):
    def add(self, routes: APIRouter) -> None:
        confirm = self.desk.confirm

        @routes.get("/requests/{name}/exact", tags=["release"])
        def exact(request: HttpRequest, name: str) -> Response:
            """The exact bytes that are approved, which the executor acts on and hands in."""
            self.key(request, "execute")
            return Response(confirm.exact(name), media_type="application/json", headers={"cache-control": "no-store"})

        @routes.post("/redeem", tags=["release"])
        async def redeem(request: HttpRequest) -> Response:
            """Spend a release token, once."""
            await run_in_threadpool(self.key, request, "execute")
            async with _json(request) as body:
                exact = _exact(body)
                return JSONResponse(await run_in_threadpool(confirm.redeem, body.get("token"), exact))

        @routes.post("/calls", tags=["release"])
        async def call(request: HttpRequest) -> Response:
            """Say what a call is."""
            await run_in_threadpool(self.key, request, "guard")
            async with _json(request) as body:
                name, verdict = body.get("call_id"), body.get("verdict")
                if not isinstance(name, str) or not 0 < len(name) <= LIMITS["call_id"]:
                    raise Problem(
                        "invalid_value", "call_id has 1 to 100 characters", "give the call's id", param="call_id"
                    )
                if verdict not in VERDICTS:
                    raise Problem(
                        "invalid_value",
                        "there is no such verdict",
                        f"it is one of {', '.join(VERDICTS)}",
                        param="verdict",
                    )
                await run_in_threadpool(confirm.note_call, name, str(verdict))
            return JSONResponse({"object": "call", "id": name, "verdict": verdict})


class _People(_Routes):
    def add(self, routes: APIRouter) -> None:
        directory = self.desk.directory

        @routes.get("/people", tags=["people"])
        def all_people(request: HttpRequest) -> Response:
            """The directory; administrators see who has how many passkeys, others handles and names."""
            who = self.person(request)
            rows = [row for row in directory.all() if row["ended_at"] is None]
            shown = ("id", "handle", "name", "roles", "passkeys") if "admin" in who["roles"] else ("handle", "name")
            return JSONResponse({"object": "list", "data": [{name: row[name] for name in shown} for row in rows]})

        @routes.delete("/people/{name}", tags=["people"])
        def end(request: HttpRequest, name: str) -> Response:
            """End an entry, by its id: devices, sessions and open requests."""
            who = self.person(request, "admin")
            row = directory.by_id(name)
            directory.end(row["id"], who["id"])
            return JSONResponse({"object": "person", "handle": row["handle"], "ended": True})


class _Tickets(_Routes):
    def add(self, routes: APIRouter) -> None:
        directory = self.desk.directory

        @routes.get("/tickets", tags=["people"])
        def tickets(request: HttpRequest) -> Response:
            """Enrolments and recoveries that wait."""
            who = self.person(request)
            return JSONResponse({"object": "list", "data": directory.tickets(who["id"])})

        @routes.post("/tickets", tags=["people"])
        async def open_ticket(request: HttpRequest) -> Response:
            """Open an enrolment or a recovery, which two people then vouch for."""
            who = await run_in_threadpool(self.person, request, "admin")
            async with _json(request) as body:
                words = {name: body.get(name) for name in ("handle", "name", "roles")}
                made = await run_in_threadpool(
                    lambda: directory.open_ticket(body.get("kind", "enrol"), who["id"], **words)
                )
            return JSONResponse({"object": "ticket", **made}, status_code=201)

        @routes.post("/tickets/{name}/ceremony", tags=["people"])
        def begin(request: HttpRequest, name: str) -> Response:
            """Begin to vouch for a ticket."""
            who = self.person(request)
            return JSONResponse(directory.begin_sponsoring(name, who["id"]))

        @routes.post("/tickets/{name}/sponsor", tags=["people"])
        async def sponsor(request: HttpRequest, name: str) -> Response:
            """Vouch for a ticket; the answer has the sponsor's half of its code, this once."""
            who = await run_in_threadpool(self.person, request)
            async with _json(request) as body:
                given = (name, who["id"], body.get("ceremony"), body.get("credential"))
                half = await run_in_threadpool(directory.sponsor, *given)
            shown = await run_in_threadpool(directory.shown, name, who["id"])
            return JSONResponse({"object": "ticket", **shown, "half": half})


class _Enrolments(_Routes):
    def add(self, routes: APIRouter) -> None:
        directory = self.desk.directory

        @routes.post("/enrol/ceremony", tags=["people"])
        async def begin_use(request: HttpRequest) -> Response:
            """Begin to enrol this device with a whole code."""
            async with _json(request) as body:
                return JSONResponse(await run_in_threadpool(directory.begin_use, body.get("code")))

        @routes.post("/enrol", tags=["people"])
        async def use(request: HttpRequest) -> Response:
            """Enrol this device."""
            async with _json(request) as body:
                given = (body.get("code"), body.get("ceremony"), body.get("credential", body.get("digits")))
                made = await run_in_threadpool(directory.use, *given)
            return JSONResponse({"object": "enrolment", **made}, status_code=201)


class _Sessions(_Routes):
    def add(self, routes: APIRouter) -> None:
        desk = self.desk

        @routes.post("/session/ceremony", tags=["session"])
        def begin() -> Response:
            """Begin to sign in; nobody is named, so nobody can be looked for."""
            now = desk.ledger.clock.now().wall
            told = _sign_in_digest(desk.settings.origin)
            return JSONResponse(desk.passkeys.begin(now, SIGN_IN, told, person=None, subject=None))

        @routes.post("/session", tags=["session"])
        async def sign_in(request: HttpRequest) -> Response:
            """Sign in with a passkey."""
            async with _json(request) as body:
                row, secret = await run_in_threadpool(self._sign_in, body)
            answer = JSONResponse(_me(row))
            answer.set_cookie(
                self.cookie,
                secret,
                secure=desk.settings.origin.startswith("https"),
                httponly=True,
                samesite="strict",
            )
            return answer

        @routes.get("/session", tags=["session"])
        def who(request: HttpRequest) -> Response:
            """Who is signed in."""
            return JSONResponse(_me(self.person(request)))

        @routes.delete("/session", tags=["session"])
        def sign_out(request: HttpRequest) -> Response:
            """Sign out."""
            desk.directory.end_session(request.cookies.get(self.cookie))
            answer = JSONResponse({"object": "session", "ended": True})
            answer.delete_cookie(self.cookie)
            return answer

    def _sign_in(self, body: dict[str, Any]) -> tuple[sa.RowMapping, str]:
        from sorano.desk.passkeys import note_use

        desk = self.desk
        now = desk.ledger.clock.now().wall
        burnt = desk.passkeys.burn(now, body.get("ceremony"), SIGN_IN, person=None, subject=None)
        proof = desk.passkeys.verify(burnt, body.get("credential"))
        with desk.database.write(durable=False) as connection:
            note_use(connection, proof)
        row = desk.directory.by_id(proof.person)
        return row, desk.directory.start_session(row["id"])


def _add_operation(routes: APIRouter, desk: Desk, metrics: HttpMetrics) -> None:
    asks = _Routes(desk)

    @routes.get("/receipts", tags=["operation"])
    def receipts(request: HttpRequest) -> Response:
        """Every receipt, signed: what `sorano desk audit` reads."""
        if asks.has_key(request):
            asks.key(request, "audit")
        else:
            asks.person(request, "admin")
        return Response(desk.export(), media_type="application/jsonl", headers={"cache-control": "no-store"})

    @routes.post("/ask", tags=["operation"])
    async def answered(request: HttpRequest) -> Response:
        """A question, answered from what the caller may see, each sentence with the ids that it rests on."""
        from sorano.desk.assistant import ask, endpoint_of

        who = await run_in_threadpool(asks.person, request)
        async with _json(request) as body:
            question = body.get("question")
            if not isinstance(question, str):
                raise Problem("invalid_type", "question is text", "put it in quotation marks", param="question")
            found = await run_in_threadpool(lambda: ask(desk, question, who, endpoint=endpoint_of(desk.settings)))
        return JSONResponse(found.to_dict())

    @routes.get("/policy", tags=["operation"])
    def policy(request: HttpRequest) -> Response:
        """The policy that is in force."""
        asks.person(request)
        return JSONResponse({"object": "policy", **describe_policy(desk.policy)})

    @routes.get("/privacy", tags=["operation"])
    async def privacy() -> Response:
        """How long what is personal is kept, and whether questions go to a language model."""
        return JSONResponse(_privacy(desk))

    @routes.get("/healthz", tags=["operation"])
    async def healthz() -> Response:
        """Whether the process answers."""
        return JSONResponse({"status": "ok"})

    @routes.get("/readyz", tags=["operation"])
    def readyz() -> Response:
        """Whether the ledger can be written; 503 says why not."""
        try:
            desk.ledger.check()
        except Problem as problem:
            return JSONResponse({"status": "unavailable", "code": problem.code}, status_code=503)
        return JSONResponse({"status": "ok"})

    @routes.get("/metrics", tags=["operation"])
    def told(request: HttpRequest) -> Response:
        """Metrics as Prometheus reads them."""
        asks.key(request, "audit")
        with desk.database.read() as connection:
            query = sa.select(sa.func.count()).where(requests.c.status == PENDING)
            waiting = connection.execute(query).scalar_one()
        text = metrics.text() + f"# TYPE sorano_desk_pending gauge\nsorano_desk_pending {waiting}\n".encode()
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


def _privacy(desk: Desk) -> dict[str, Any]:
    held = {"keep_days": desk.policy.keep_seconds / 86_400, "session_minutes": desk.settings.session_seconds / 60}
    shown = {name: round(value, 1) if value % 1 else int(value) for name, value in held.items()}
    return {"object": "privacy", **shown, "has_endpoint": bool(desk.settings.endpoint)}


@asynccontextmanager
async def _json(request: HttpRequest) -> AsyncIterator[dict[str, Any]]:
    """The body of a request: JSON that is text of Unicode throughout. Raises `Problem`."""
    async with body_of(request) as body:
        try:
            json.dumps(body, ensure_ascii=False).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise Problem(
                "invalid_json", "the body is not JSON in UTF-8", "send an object of text and numbers"
            ) from error
        yield body


def _exact(body: dict[str, Any]) -> bytes:
    """The bytes of a body's "exact", as text. Raises `Problem`."""
    text = body.get("exact")
    if not isinstance(text, str):
        raise Problem("invalid_type", "exact is the approved bytes as text", "take them from .../exact", param="exact")
    return text.encode()


def _sign_in_digest(origin: str) -> bytes:
    return hashlib.sha256(canonical({"type": "sorano desk sign-in 1", "origin": origin})).digest()


def _me(row: sa.RowMapping) -> dict[str, Any]:
    return {"object": "session", "handle": row["handle"], "name": row["name"], "roles": row["roles"]}
