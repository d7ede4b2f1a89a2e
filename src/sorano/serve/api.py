"""The HTTP application: OpenAI's Videos API and our extensions of it.

`create_app` puts the parts together; the routes are in `routes_videos` (videos, files, plan, verify, models) and
`routes_admin` (webhooks, health, metrics, audit). Whatever goes wrong has OpenAI's shape (`sorano.web.problems`).
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from sorano.serve import routes_admin, routes_studio, routes_videos
from sorano.serve.config import Settings
from sorano.serve.events import Events
from sorano.serve.keys import Keys
from sorano.serve.metrics import Metrics
from sorano.serve.ordering import Orders
from sorano.serve.parts import Api
from sorano.serve.policy import Policy
from sorano.serve.sweep import Sweeper
from sorano.serve.webhooks import Webhooks
from sorano.serve.worker import Service
from sorano.web import SHARED_PAGE
from sorano.web.answers import answer_problems
from sorano.web.guard import Guard

STUDIO = Path(__file__).parent / "studio"


def create_app(settings: Settings, *, service: Service | None = None) -> FastAPI:
    """The application on a database and a store. Raises the errors of `Service.open`."""
    from sorano import __version__

    service = service or Service.open(settings)
    orders = Orders(service, Policy.read(settings.blocked_words, settings.classifier))
    api = Api(
        settings=settings,
        service=service,
        keys=Keys(service.database, settings.limits),
        orders=orders,
        events=Events(service.jobs, orders.shown, settings.most_listeners),
        webhooks=Webhooks(service.database, settings),
        metrics=Metrics(service.jobs),
        sweeper=Sweeper(service),
        is_draining=threading.Event(),
    )

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        from anyio import to_thread

        to_thread.current_default_thread_limiter().total_tokens = 48
        api.sweeper.start()
        api.webhooks.start()
        yield
        api.is_draining.set()
        await api.events.close()
        api.webhooks.stop()
        api.sweeper.stop()

    app = FastAPI(
        title="Sorano",
        version=__version__,
        lifespan=life,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        redirect_slashes=False,
        description="The OpenAI Videos API, and extensions of it, on models of your own.",
    )
    app.state.api = api
    app.include_router(routes_videos.router(api))
    app.include_router(routes_admin.router(api))
    app.include_router(routes_studio.router(api))
    app.mount("/web", StaticFiles(directory=SHARED_PAGE), name="shared")
    if STUDIO.is_dir():
        app.mount("/", StaticFiles(directory=STUDIO, html=True), name="studio")
    answer_problems(app)
    app.add_middleware(Guard, settings=settings, metrics=api.metrics)
    return app
