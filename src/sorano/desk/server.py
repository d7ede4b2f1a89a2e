"""`sorano desk serve`: one process that answers until it is told to stop."""

from __future__ import annotations

from collections.abc import Callable

from sorano.desk.api import create_app
from sorano.desk.service import Desk
from sorano.web.logs import log
from sorano.web.server import Server, listen, uvicorn_config


def serve(desk: Desk, say: Callable[[str], None] = print) -> None:
    """Answer until told to stop; `say` gets the origin. Raises RequestError where the address cannot be had."""
    settings = desk.settings
    listening = listen(settings.host, settings.port)
    server = Server(uvicorn_config(create_app(desk)))
    try:
        say(settings.origin)
        log("desk serving", host=settings.host, port=settings.port, origin=settings.origin)
        server.run(sockets=[listening])
    finally:
        listening.close()
        desk.close()
