"""The routes of calls. People join by their passkey, guests by a code; then a tile's token speaks for it.

POST   /rooms                              a new call                session
POST   /rooms/ID/ceremony, /join           join with a passkey       session
POST   /rooms/ID/guest                     join as a guest           the room's guest code
POST   /rooms/ID/record                    look on                   key: guard
GET    /rooms/ID                           tiles and their states    x-call-token
GET    /rooms/ID/bundles, /timeline        signed keys; what happened    x-call-token
GET    /rooms/ID/tiles/TILE/slots          what to mark with         the tile's own token
POST   /rooms/ID/tiles/TILE/content        what was marked           the tile's own token
POST   /rooms/ID/tiles/TILE/send, /watch   WebRTC offers             the tile's own token; any
POST   /rooms/ID/tiles/TILE/light, /words  challenge it; words heard token of a passkey's tile
DELETE /rooms/ID/tiles/TILE                leave                     the tile's own token
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as HttpRequest
from starlette.responses import FileResponse, JSONResponse, Response

from sorano.desk.call.guard import Room, Tile
from sorano.desk.call.media import CallMedia
from sorano.web.problems import Problem

PAGE = Path(__file__).parents[1] / "page" / "call.html"
CAMERA = {"permissions-policy": "camera=(self), microphone=(self), geolocation=()", "cache-control": "no-cache"}
Body = Callable[[HttpRequest], AbstractAsyncContextManager[dict[str, Any]]]


@dataclass
class CallRoutes:
    """The routes of calls. `person` and `key` say who asks (they raise `Problem`), `body_of` reads a body."""

    media: CallMedia
    person: Any
    key: Any
    body_of: Body

    def add(self, routes: APIRouter) -> None:
        """Add them to a router."""
        self._add_rooms(routes)
        self._add_looks(routes)
        self._add_tiles(routes)

    def asks(self, request: HttpRequest, name: str) -> Tile | None:
        """Whose token a request has; None: a recorder's. Raises `Problem`."""
        return self.media.guard.caller(name, request.headers.get("x-call-token"))

    def own(self, request: HttpRequest, name: str, tile: str) -> tuple[Room, Tile]:
        """The room and the tile of a request with the tile's own token. Raises `Problem`."""
        found = self.asks(request, name)
        if found is None or found.id != tile:
            raise Problem("not_yours", "this tile is somebody else's", "use your own token")
        return self.media.guard.room(name), found

    def _add_rooms(self, routes: APIRouter) -> None:
        guard = self.media.guard

        @routes.get("/call", tags=["calls"], include_in_schema=False)
        def page() -> Response:
            """The page of calls, which may use the camera."""
            return FileResponse(PAGE, headers=CAMERA)

        @routes.post("/rooms", tags=["calls"])
        def open_room(request: HttpRequest) -> Response:
            """A new call."""
            room = guard.open(self.person(request)["id"])
            return JSONResponse({"object": "call", "id": room.id, "guest_code": room.guest_code}, status_code=201)

        @routes.post("/rooms/{name}/ceremony", tags=["calls"])
        def begin(request: HttpRequest, name: str) -> Response:
            """Begin to join with a passkey."""
            return JSONResponse(guard.begin_join(name, self.person(request)["id"]))

        @routes.post("/rooms/{name}/join", tags=["calls"])
        async def join(request: HttpRequest, name: str) -> Response:
            """Join: the answer has the tile's token and the key of its encoded frames."""
            who = await run_in_threadpool(self.person, request)
            async with self.body_of(request) as body:
                given = (body.get("ceremony"), body.get("credential"))
                return self._joined(await run_in_threadpool(guard.join, name, who, *given))

        @routes.post("/rooms/{name}/guest", tags=["calls"])
        async def guest(request: HttpRequest, name: str) -> Response:
            """Join as a guest, who is only a picture."""
            async with self.body_of(request) as body:
                given = (body.get("code"), body.get("name"))
                return self._joined(await run_in_threadpool(guard.join_guest, name, *given))

        @routes.post("/rooms/{name}/record", tags=["calls"])
        def record(request: HttpRequest, name: str) -> Response:
            """Look on, to record."""
            self.key(request, "guard")
            told = {"object": "viewer", "token": guard.add_viewer(name), "on_loopback": self._on_loopback}
            return JSONResponse(told, status_code=201)

    def _add_looks(self, routes: APIRouter) -> None:
        guard = self.media.guard

        @routes.get("/rooms/{name}", tags=["calls"])
        def look(request: HttpRequest, name: str) -> Response:
            """The tiles, and what is said of them."""
            tile = self.asks(request, name)
            return JSONResponse(guard.shown(name, tile.id if tile else None), headers={"cache-control": "no-store"})

        @routes.get("/rooms/{name}/bundles", tags=["calls"])
        def bundles(request: HttpRequest, name: str, after: int = 0) -> Response:
            """The disclosed keys of the last two minutes (`after` a time in ms), each second's bundle signed."""
            self.asks(request, name)
            found = [text for at, text in guard.room(name).bundles if at > after]
            return JSONResponse({"object": "list", "data": found})

        @routes.get("/rooms/{name}/timeline", tags=["calls"])
        def timeline(request: HttpRequest, name: str) -> Response:
            """What happened, signed."""
            self.asks(request, name)
            return Response(guard.timeline(name), media_type="application/json")

    def _add_tiles(self, routes: APIRouter) -> None:
        guard = self.media.guard

        @routes.get("/rooms/{name}/tiles/{tile}/slots", tags=["calls"])
        def slots(request: HttpRequest, name: str, tile: str) -> Response:
            """What the tile's own page marks with, for the next seconds."""
            self.own(request, name, tile)
            return JSONResponse(guard.slots(name, tile), headers={"cache-control": "no-store"})

        @routes.post("/rooms/{name}/tiles/{tile}/content", tags=["calls"])
        async def content(request: HttpRequest, name: str, tile: str) -> Response:
            """Say what the tile's pictures looked like, slot by slot."""
            self.own(request, name, tile)
            async with self.body_of(request) as body:
                await run_in_threadpool(guard.declare, name, tile, body.get("slots"))
            return JSONResponse({"object": "tile", "id": tile})

        @routes.post("/rooms/{name}/tiles/{tile}/send", tags=["calls"])
        async def send(request: HttpRequest, name: str, tile: str) -> Response:
            """Offer to send pictures."""
            found = self.own(request, name, tile)
            async with self.body_of(request) as body:
                return JSONResponse({"type": "answer", "sdp": await self.media.send(*found, _sdp(body))})

        @routes.post("/rooms/{name}/tiles/{tile}/watch", tags=["calls"])
        async def watch(request: HttpRequest, name: str, tile: str) -> Response:
            """Offer to receive a tile's pictures."""
            self.asks(request, name)
            room = guard.room(name)
            async with self.body_of(request) as body:
                answer = await self.media.watch(room, guard.tile(room, tile), _sdp(body))
            return JSONResponse({"type": "answer", "sdp": answer})

        @routes.post("/rooms/{name}/tiles/{tile}/light", tags=["calls"])
        def light(request: HttpRequest, name: str, tile: str) -> Response:
            """Challenge a tile by coded light."""
            asking = self.asks(request, name)
            if asking is None or asking.chain is None:
                raise Problem("insufficient_scope", "only who joined with a passkey may challenge", "join with yours")
            guard.challenge(name, tile)
            return JSONResponse({"object": "challenge", "tile": tile}, status_code=201)

        @routes.post("/rooms/{name}/tiles/{tile}/words", tags=["calls"])
        def words(request: HttpRequest, name: str, tile: str) -> Response:
            """Whether the tile just said the two words that it shares with yours."""
            asking = self.asks(request, name)
            if asking is None or asking.chain is None:
                raise Problem("insufficient_scope", "only who joined with a passkey has words", "join with yours")
            return JSONResponse(guard.check_words(name, asking, tile))

        @routes.delete("/rooms/{name}/tiles/{tile}", tags=["calls"])
        def leave(request: HttpRequest, name: str, tile: str) -> Response:
            """Leave."""
            self.own(request, name, tile)
            guard.leave(name, tile)
            return JSONResponse({"object": "tile", "id": tile, "left": True})

    @property
    def _on_loopback(self) -> bool:
        return self.media.guard.desk.settings.calls_on_loopback

    def _joined(self, tile: Tile) -> Response:
        told: dict[str, Any] = {"object": "tile", "tile": tile.id, "token": tile.token, "name": tile.name}
        if (chain := tile.chain) is not None:
            told["frame_key"] = base64.b64encode(chain.frame_key).decode()
            told["commitment"] = chain.commitment.hex()
        told["on_loopback"] = self._on_loopback
        return JSONResponse(told, status_code=201, headers={"cache-control": "no-store"})


def _sdp(body: dict[str, Any]) -> str:
    sdp = body.get("sdp")
    if not isinstance(sdp, str) or not sdp:
        raise Problem("invalid_type", "sdp is the text of an offer", "send offer.sdp", param="sdp")
    return sdp
