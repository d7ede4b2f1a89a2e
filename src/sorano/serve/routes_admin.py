"""The routes of webhooks, of operators, and of probes."""

from __future__ import annotations

import os
from typing import Any

import sqlalchemy as sa
from fastapi import APIRouter, Query
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from sorano.serve import views
from sorano.serve.database import audit, workers
from sorano.serve.parts import Api
from sorano.serve.webhooks import EVENT_TYPES, is_taken
from sorano.web.forms import body_of


def router(api: Api) -> APIRouter:
    """The routes."""
    routes = APIRouter()
    _add_webhooks(routes, api)
    _add_deliveries(routes, api)
    _add_probes(routes, api)
    _add_operators(routes, api)
    return routes


def _add_webhooks(routes: APIRouter, api: Api) -> None:
    hooks = api.webhooks

    @routes.post("/v1/webhook_endpoints", tags=["webhooks"], openapi_extra=_ENDPOINT_BODY)
    async def create_endpoint(request: HttpRequest) -> Response:
        """Send events to an address; the secret that signs them is shown this once."""
        caller = api.caller(request, "write")
        async with body_of(request) as body:
            row, secret = await run_in_threadpool(hooks.create, caller.owner, body)
        return JSONResponse({**views.endpoint(row), "signing_secret": secret})

    @routes.get("/v1/webhook_endpoints", tags=["webhooks"])
    def list_endpoints(request: HttpRequest) -> Response:
        """The caller's endpoints."""
        caller = api.caller(request, "read")
        return JSONResponse(views.page([views.endpoint(row) for row in hooks.all(caller.sees)], False))

    @routes.get("/v1/webhook_endpoints/{name}", tags=["webhooks"])
    def retrieve_endpoint(request: HttpRequest, name: str) -> Response:
        """One endpoint."""
        return JSONResponse(views.endpoint(hooks.get(name, api.caller(request, "read").sees)))

    @routes.post("/v1/webhook_endpoints/{name}", tags=["webhooks"], openapi_extra=_ENDPOINT_BODY)
    async def update_endpoint(request: HttpRequest, name: str) -> Response:
        """Change an endpoint."""
        caller = api.caller(request, "write")
        async with body_of(request) as body:
            row = await run_in_threadpool(hooks.update, name, caller.sees, body)
        return JSONResponse(views.endpoint(row))

    @routes.delete("/v1/webhook_endpoints/{name}", tags=["webhooks"])
    def delete_endpoint(request: HttpRequest, name: str) -> Response:
        """Remove an endpoint."""
        hooks.delete(name, api.caller(request, "write").sees)
        return JSONResponse({"id": name, "object": "webhook_endpoint.deleted", "deleted": True})

    @routes.post("/v1/webhook_endpoints/{name}/rotate_secret", tags=["webhooks"])
    def rotate_secret(request: HttpRequest, name: str) -> Response:
        """A new secret; for a day both sign."""
        row, secret = hooks.rotate(name, api.caller(request, "write").sees)
        return JSONResponse({**views.endpoint(row), "signing_secret": secret})


def _add_deliveries(routes: APIRouter, api: Api) -> None:
    hooks = api.webhooks

    @routes.post("/v1/webhook_endpoints/{name}/test", tags=["webhooks"])
    async def test_endpoint(request: HttpRequest, name: str) -> Response:
        """Send a made-up event at once."""
        caller = api.caller(request, "write")
        async with body_of(request) as body:
            kind = str(body.get("event_type") or EVENT_TYPES[0])
        status = await run_in_threadpool(hooks.test, name, caller.sees, kind)
        told = {"object": "webhook_endpoint.test", "webhook_endpoint_id": name, "event_type": kind}
        return JSONResponse({**told, "status_code": status, "success": is_taken(status)})

    @routes.get("/v1/webhook_endpoints/{name}/deliveries", tags=["webhooks"])
    def list_deliveries(request: HttpRequest, name: str) -> Response:
        """What was sent, newest first."""
        rows = hooks.log_of(name, api.caller(request, "read").sees)
        return JSONResponse(views.page([views.delivery(row) for row in rows], False))

    @routes.get("/v1/webhook_event_types", tags=["webhooks"])
    def list_event_types(request: HttpRequest) -> Response:
        """The events that there are."""
        api.caller(request, "read")
        return JSONResponse({"object": "list", "data": list(EVENT_TYPES)})


def _add_probes(routes: APIRouter, api: Api) -> None:
    @routes.head("/healthz", include_in_schema=False)
    @routes.get("/healthz", tags=["operation"])
    async def healthz() -> Response:
        """Whether the process answers."""
        return JSONResponse({"status": "ok"})

    @routes.head("/readyz", include_in_schema=False)
    @routes.get("/readyz", tags=["operation"])
    def readyz() -> Response:
        """Whether jobs are taken and made: the database, the store, a worker; 503 names what is missing."""
        checks = {"database": _try(lambda: bool(api.service.jobs.counts() is not None))}
        checks["store"] = os.access(api.service.store.uploads, os.W_OK)
        checks["worker"] = checks["database"] and _try(lambda: _ready_workers(api) > 0)
        checks["serving"] = not api.is_draining.is_set()
        good = all(checks.values())
        return JSONResponse({"status": "ok" if good else "unavailable", **checks}, status_code=200 if good else 503)

    @routes.get("/metrics", tags=["operation"])
    def metrics(request: HttpRequest) -> Response:
        """Metrics as Prometheus reads them; where keys are needed, one with the scope admin."""
        api.caller(request, "admin")
        api.metrics.listeners.set(api.events.count)
        return Response(api.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_operators(routes: APIRouter, api: Api) -> None:
    @routes.get("/v1/audit", tags=["operation"])
    def list_audit(
        request: HttpRequest,
        subject: str | None = None,
        after: int = Query(0, ge=0, lt=2**62),
        limit: int = Query(100, ge=1, le=1000),
    ) -> Response:
        """Who made, cancelled and deleted what, oldest first."""
        api.caller(request, "admin")
        query = sa.select(audit).where(audit.c.seq > after).order_by(audit.c.seq).limit(limit)
        if subject is not None:
            query = query.where(audit.c.subject == subject)
        with api.service.database.read() as connection:
            rows = [dict(row) for row in connection.execute(query).mappings()]
        return JSONResponse({"object": "list", "data": rows})

    @routes.get("/v1/workers", tags=["operation"])
    def list_workers(request: HttpRequest) -> Response:
        """The workers that were seen lately."""
        api.caller(request, "admin")
        with api.service.database.read() as connection:
            rows = [dict(row) for row in connection.execute(sa.select(workers).order_by(workers.c.id)).mappings()]
        return JSONResponse({"object": "list", "data": rows})


def _ready_workers(api: Api) -> int:
    with api.service.database.read() as connection:
        recent = api.service.database.now(connection) - 15
        query = sa.select(sa.func.count()).where(workers.c.state == "ready", workers.c.seen_at > recent)
        return int(connection.execute(query).scalar_one())


def _try(look: Any) -> bool:
    try:
        return bool(look())
    except Exception:  # whatever it is, it is not ready
        return False


_ENDPOINT_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "name": {"type": "string"},
                        "url": {"type": "string"},
                        "event_types": {"type": "array", "items": {"type": "string", "enum": list(EVENT_TYPES)}},
                    },
                }
            }
        },
    }
}
