"""What the routes of the application share."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from anyio import CapacityLimiter, to_thread
from starlette.requests import Request as HttpRequest

from sorano.serve import views
from sorano.serve.config import Settings
from sorano.serve.events import Events
from sorano.serve.keys import Caller, Keys
from sorano.serve.metrics import Metrics
from sorano.serve.ordering import Orders
from sorano.serve.posts import Row
from sorano.serve.sweep import Sweeper
from sorano.serve.webhooks import Webhooks
from sorano.serve.worker import Service
from sorano.web.chinese import wants_chinese

THREADS_WITH_FILES = 8
T = TypeVar("T")


@dataclass
class Api:
    """The parts of one application."""

    settings: Settings
    service: Service
    keys: Keys
    orders: Orders
    events: Events
    webhooks: Webhooks
    metrics: Metrics
    sweeper: Sweeper
    is_draining: threading.Event
    looks: threading.BoundedSemaphore = field(default_factory=lambda: threading.BoundedSemaphore(2))  # files verified
    with_files: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(THREADS_WITH_FILES))

    async def in_thread_with_files(self, call: Callable[..., T], *given: Any) -> T:
        """What a call that looks at files answers: in a thread that is not one of those that answer all else, for such
        calls wait for each other and for child processes."""
        return await to_thread.run_sync(call, *given, limiter=self.with_files)

    def reads_chinese(self, request: HttpRequest) -> bool:
        """Whether who asks reads Chinese."""
        return wants_chinese(request.headers.get("accept-language"))

    def shown(self, request: HttpRequest, rows: Sequence[Row]) -> list[dict[str, Any]]:
        """Jobs as video objects, in the reader's language."""
        videos = self.orders.shown(rows)
        return [views.in_chinese(one) for one in videos] if self.reads_chinese(request) else videos

    def caller(self, request: HttpRequest, scope: str) -> Caller:
        """Who asks, if that is allowed. Raises `Problem`."""
        kind, _, key = request.headers.get("authorization", "").partition(" ")
        bearer = key.strip() if kind.lower() == "bearer" else None
        needs_keys = self.settings.needs_keys
        if self.keys.any_made() if needs_keys is None else needs_keys:
            caller = self.keys.caller(bearer)
        else:
            caller = self.keys.local()
        request.scope["sorano_caller"] = caller.owner
        caller.require(scope)
        return caller
