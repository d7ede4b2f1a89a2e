"""The socket and the settings of a server process."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import uvicorn

from sorano.errors import RequestError

GRACE_SECONDS = 3  # for open connections when the server ends


def uvicorn_config(app: Any) -> uvicorn.Config:
    """How Uvicorn serves an application: no log of its own, no trust in a proxy's headers."""
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=True,
        timeout_graceful_shutdown=GRACE_SECONDS,
        timeout_keep_alive=30,
        proxy_headers=False,
    )


class Server(uvicorn.Server):
    """Uvicorn's, for which a signal to stop is no error; `on_stop` is called with each, and a second one hurries."""

    def __init__(self, config: uvicorn.Config, on_stop: Callable[[], None] = lambda: None) -> None:
        super().__init__(config)
        self.on_stop = on_stop

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        before = {which: signal.signal(which, self._stop) for which in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for which, handler in before.items():
                signal.signal(which, handler)

    def _stop(self, _signal: int, _frame: FrameType | None) -> None:
        self.on_stop()
        if self.should_exit:
            self.force_exit = True
        self.should_exit = True


def address_of(host: str, port: int) -> str:
    """The URL of a host and a port."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def listen(host: str, port: int) -> socket.socket:
    """The socket of the address. Raises RequestError where it cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise RequestError(
            f"{host} port {port} cannot be used: {error.strerror or error}",
            "give another one: --port 8001; 0 takes any that is free",
        ) from error
    listening.listen(2048)
    return listening
