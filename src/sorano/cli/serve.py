"""The commands of the server: serve (with keys), worker, ps, cancel. Nothing heavy is imported before it is needed."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sorano import extras
from sorano.cli.console import report_errors
from sorano.errors import RequestError
from sorano.trust.printable import printable_line, to_json

if TYPE_CHECKING:
    from sorano.serve.config import Settings
    from sorano.serve.keys import Keys
    from sorano.serve.worker import Service

QUEUE, SAFETY, WHERE = "The queue", "Who may ask", "Where things are"

Database = Annotated[
    str | None,
    typer.Option(
        help="postgresql://USER@HOST/NAME, or sqlite:///PATH. Default: SORANO_DATABASE, else a file in --data.",
        rich_help_panel=WHERE,
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(
        help="The folder of uploads and videos, shared by server and workers. Default: SORANO_SERVE_DATA, else the"
        " user's own.",
        rich_help_panel=WHERE,
    ),
]
Lease = Annotated[
    float, typer.Option(help="Seconds after which a silent worker's job is another's.", min=0.5, rich_help_panel=QUEUE)
]
Drain = Annotated[
    float, typer.Option(help="Seconds for the job at hand when told to stop.", min=0, rich_help_panel=QUEUE)
]
Attempts = Annotated[
    int, typer.Option(help="Workers that one job may lose before it fails.", min=1, rich_help_panel=QUEUE)
]
Keep = Annotated[
    float | None,
    typer.Option(
        help="Days that finished videos and uploads are kept, record and files. Default: for ever.",
        min=0,
        rich_help_panel=QUEUE,
    ),
]
PictureClassifier = Annotated[
    str,
    typer.Option(
        help="MODULE:FUNCTION that says why frames, uploaded or made, are refused; "
        "sorano.serve.nsfw:refuse with 'sorano\\[nsfw]'.",
        rich_help_panel=SAFETY,
    ),
]
Maker = Annotated[str, typer.Option(help="MODULE:FUNCTION instead of the engine.", hidden=True)]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]

# the server's own
Host = Annotated[
    str, typer.Option(help="The address to listen on; other than loopback needs keys.", rich_help_panel=WHERE)
]
Port = Annotated[int, typer.Option(help="0 takes any that is free.", min=0, max=65535, rich_help_panel=WHERE)]
Workers = Annotated[int, typer.Option(help="Worker processes beside the server; 0: they run elsewhere.", min=0, max=64)]
Models = Annotated[list[str] | None, typer.Option(help="A diffusers folder to offer too. May be given again.")]
DefaultModel = Annotated[str | None, typer.Option(help="The model for names that are not known here.")]
MaxQueued = Annotated[int, typer.Option(help="Jobs that may wait; more get 429.", min=1, rich_help_panel=QUEUE)]
MaxSeconds = Annotated[float, typer.Option(help="The longest video that is made.", min=0.1, rich_help_panel=QUEUE)]
Price = Annotated[
    float | None,
    typer.Option(help="USD that an hour of a worker's device costs: plans say the amount.", rich_help_panel=QUEUE),
]
ShownCurrency = Annotated[
    str | None,
    typer.Option(
        help="Say amounts in another currency, at your own rate.",
        metavar="EUR=0.92@2026-11-20",
        rich_help_panel=QUEUE,
    ),
]
MaxUpload = Annotated[int, typer.Option(help="MB of one request.", min=1, rich_help_panel=SAFETY)]
MaxUploads = Annotated[
    float, typer.Option(help="GB that the uploads of one key may take in all.", min=0, rich_help_panel=SAFETY)
]
RequestsPerDay = Annotated[
    int | None, typer.Option(help="Of each key, unless it has its own.", min=1, rich_help_panel=SAFETY)
]
SecondsPerDay = Annotated[
    float | None, typer.Option(help="Seconds of video of each key.", min=0, rich_help_panel=SAFETY)
]
Concurrency = Annotated[int | None, typer.Option(help="Jobs of one key at once.", min=1, rich_help_panel=SAFETY)]
NeedKeys = Annotated[
    bool | None,
    typer.Option(
        "--need-keys/--no-keys",
        help="Default: where there are keys, or the address is not loopback.",
        rich_help_panel=SAFETY,
    ),
]
AllowFetch = Annotated[
    list[str] | None,
    typer.Option(help="A host that pictures may be fetched from. May be given again.", rich_help_panel=SAFETY),
]
AllowWebhook = Annotated[
    list[str] | None,
    typer.Option(help="A host, or HOST:PORT, that webhooks may go to though it is private.", rich_help_panel=SAFETY),
]
BlockedWords = Annotated[
    Path | None, typer.Option(help="A file of words that no prompt may have, one a line.", rich_help_panel=SAFETY)
]
Classifier = Annotated[
    str, typer.Option(help="MODULE:FUNCTION that says why a prompt is refused.", rich_help_panel=SAFETY)
]

serve_app = typer.Typer(help="Serve the OpenAI Videos API from this machine.", no_args_is_help=False)
keys_app = typer.Typer(help="API keys of the server.", no_args_is_help=True)
commands = typer.Typer()
commands.add_typer(serve_app, name="serve")
serve_app.add_typer(keys_app, name="keys")


@serve_app.callback(invoke_without_command=True)
def serve(
    context: typer.Context,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    database: Database = None,
    data: Data = None,
    workers: Workers = 1,
    model: Models = None,
    default_model: DefaultModel = None,
    max_queued: MaxQueued = 5000,
    max_seconds: MaxSeconds = 60.0,
    price: Price = None,
    currency: ShownCurrency = None,
    max_upload: MaxUpload = 64,
    max_uploads: MaxUploads = 10.0,
    lease_seconds: Lease = 15.0,
    drain_seconds: Drain = 30.0,
    attempts: Attempts = 3,
    keep_days: Keep = None,
    requests_per_day: RequestsPerDay = None,
    seconds_per_day: SecondsPerDay = None,
    concurrency: Concurrency = None,
    need_keys: NeedKeys = None,
    allow_fetch: AllowFetch = None,
    allow_webhook: AllowWebhook = None,
    blocked_words: BlockedWords = None,
    classifier: Classifier = "",
    picture_classifier: PictureClassifier = "",
    maker: Maker = "",
) -> None:
    """Serve the OpenAI Videos API: SQLite, local files and one worker, unless told otherwise.

    stdout gets the address once it answers; stderr gets one JSON line for each thing that happens.
    """
    if context.invoked_subcommand is not None:
        return
    with report_errors():
        extras.require("serving", "serve")
        from sorano.plan.money import check_price
        from sorano.plan.words import parse_currency
        from sorano.serve.posts import KeyLimits
        from sorano.serve.server import serve as run

        if price is not None:
            check_price(price)
        settings = _settings(
            database, data, host=host, port=port, workers=workers, models=tuple(model or ()),
            default_model=default_model, most_queued=max_queued, most_video_seconds=max_seconds,
            most_body_bytes=max_upload << 20, most_kept_bytes=round(max_uploads * 1e9),
            usd_hour=price, currency=parse_currency(currency) if currency else None,
            lease_seconds=lease_seconds, drain_seconds=drain_seconds, most_attempts=attempts,
            keep_seconds=_days(keep_days), limits=KeyLimits(requests_per_day, seconds_per_day, concurrency),
            remote_hosts=tuple(allow_fetch or ()), webhook_hosts=tuple(allow_webhook or ()),
            blocked_words=blocked_words, classifier=classifier, picture_classifier=picture_classifier,
            maker=maker,
        )  # fmt: skip
        run(_with_keys(settings, need_keys), lambda address: print(address, flush=True))


def _with_keys(settings: Settings, need_keys: bool | None) -> Settings:
    """The settings of a server that needs keys or not: as told, else where others can reach it, or it has any.

    Raises RequestError for a server that others can reach and that needs none.
    """
    if need_keys is False and not settings.is_loopback:
        raise RequestError("only a server on loopback may do without keys", "leave --no-keys out, or --host")
    if need_keys is None:
        need_keys = not settings.is_loopback or _has_keys(settings) or None
    return replace(settings, needs_keys=need_keys)


@commands.command()
def worker(
    database: Database = None,
    data: Data = None,
    lease_seconds: Lease = 15.0,
    drain_seconds: Drain = 30.0,
    attempts: Attempts = 3,
    keep_days: Keep = None,
    picture_classifier: PictureClassifier = "",
    parent: Annotated[int | None, typer.Option(hidden=True)] = None,
    maker: Maker = "",
) -> None:
    """Make the videos of a server's queue, one after the other, with one loaded model."""
    with report_errors():
        extras.require("serving", "serve")
        from sorano.serve.server import work

        settings = _settings(
            database,
            data,
            lease_seconds=lease_seconds,
            drain_seconds=drain_seconds,
            most_attempts=attempts,
            keep_seconds=_days(keep_days),
            picture_classifier=picture_classifier,
            maker=maker,
        )
        work(settings, parent=parent)


@commands.command()
def ps(
    database: Database = None,
    data: Data = None,
    everything: Annotated[bool, typer.Option("--all", "-a", help="Also what is finished, the last 100.")] = False,
    as_json: AsJson = False,
) -> None:
    """List what a server makes and what waits."""
    with report_errors():
        from sorano.serve.ordering import Orders
        from sorano.serve.policy import Policy
        from sorano.serve.posts import QUEUED, RUNNING

        service = _service(database, data)
        most, statuses = (100, ()) if everything else (service.settings.most_queued, (QUEUED, RUNNING))
        rows, _ = service.jobs.page(None, after=None, limit=most, ascending=False, statuses=statuses)
        rows = rows[::-1]
        found = Orders(service, Policy.read(None, "")).shown(rows)
        if as_json:
            print(to_json({"videos": found}))
            return
        for one in found:
            state = "paused" if one["is_paused"] and one["status"] == "queued" else one["status"]
            place = f"#{one['queue_position']}" if one["queue_position"] else f"{one['progress']}%"
            place = "" if state == "paused" else place
            print(
                printable_line(
                    f"{one['id']}  {state:<11}  {place:>5}  {one['preset']:<10}  {(one['prompt'] or '')[:60]}"
                )
            )


@commands.command()
def cancel(
    video_id: Annotated[str, typer.Argument(help="As sorano ps shows it.", metavar="ID")],
    database: Database = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Stop a video that waits or is being made by a server."""
    with report_errors():
        from sorano.serve import views
        from sorano.web.problems import Problem

        try:
            row = _service(database, data).jobs.cancel(video_id, None, by="operator")
        except Problem as problem:
            raise RequestError(problem.message, "sorano ps --all shows what there is") from problem
        print(to_json(views.video(row)) if as_json else row["id"])


@serve_app.command("delete")
def delete(
    video_id: Annotated[str, typer.Argument(help="Any video, whoever made it.", metavar="ID")],
    database: Database = None,
    data: Data = None,
) -> None:
    """Take a video down: record and files, whoever made it."""
    with report_errors():
        from sorano.web.problems import Problem

        service = _service(database, data)
        try:
            service.jobs.delete(video_id, None, by="operator")
        except Problem as problem:
            raise RequestError(problem.message, "sorano ps --all shows what there is") from problem
        service.store.remove_job(video_id)
        print(video_id)


@keys_app.command("create")
def create_key(
    name: Annotated[str, typer.Argument(help="Who or what uses it.")],
    scope: Annotated[
        list[str] | None, typer.Option(help="read, write, admin. May be given again. Default: read and write.")
    ] = None,
    days: Annotated[float | None, typer.Option(help="Days that it works. Default: until it is revoked.", min=0)] = None,
    requests_per_day: Annotated[int | None, typer.Option(min=1)] = None,
    seconds_per_day: Annotated[float | None, typer.Option(help="Seconds of video.", min=0)] = None,
    concurrency: Annotated[int | None, typer.Option(help="Jobs at once.", min=1)] = None,
    max_queued: Annotated[int | None, typer.Option(help="Jobs that may wait.", min=1)] = None,
    database: Database = None,
    data: Data = None,
) -> None:
    """Make an API key. stdout gets the key; it is not shown again."""
    with report_errors():
        from sorano.serve.posts import KeyLimits

        limits = KeyLimits(requests_per_day, seconds_per_day, concurrency, max_queued)
        key_id, key = _keys(database, data).create(name, scope or ("read", "write"), limits, days)
        print(f"{key_id} of {name}; it is not shown again", file=sys.stderr)
        print(key)


@keys_app.command("list")
def list_keys(database: Database = None, data: Data = None, as_json: AsJson = False) -> None:
    """List the keys: their ids, scopes and limits, never themselves."""
    with report_errors():
        rows = [{name: value for name, value in row.items() if name != "hash"} for row in _keys(database, data).all()]
        if as_json:
            print(to_json({"keys": rows}))
            return
        for row in rows:
            state = "revoked" if row["revoked_at"] else "ends" if row["expires_at"] else "works"
            print(
                printable_line(f"{row['id']}  {state:<8} {row['hint']:<22} {','.join(row['scopes']):<18} {row['name']}")
            )


@keys_app.command("rotate")
def rotate_key(
    key_id: Annotated[str, typer.Argument(metavar="ID")],
    hours: Annotated[float, typer.Option(help="Hours that the old one still works.", min=0)] = 24.0,
    database: Database = None,
    data: Data = None,
) -> None:
    """Make a new key in the place of one; its videos and limits stay."""
    with report_errors():
        new_id, key = _keys(database, data).rotate(key_id, hours)
        print(f"{new_id}; it is not shown again", file=sys.stderr)
        print(key)


@keys_app.command("revoke")
def revoke_key(
    key_id: Annotated[str, typer.Argument(metavar="ID")], database: Database = None, data: Data = None
) -> None:
    """End a key at once."""
    with report_errors():
        _keys(database, data).revoke(key_id)
        print(key_id)


def _settings(database: str | None, data: Path | None, **words: Any) -> Settings:
    from sorano.serve.config import Settings, data_folder, database_url

    folder = data_folder(data)
    return Settings(data=folder, database=database_url(database, folder), **words)


def _service(database: str | None, data: Path | None) -> Service:
    """The database and the store of a server. Raises RequestError where there are none."""
    extras.require("serving", "serve")
    from sorano.serve.worker import Service
    from sorano.web.database import sqlite_path

    settings = _settings(database, data)
    path = sqlite_path(settings.database)
    if path is not None and not os.path.exists(path) and not path.startswith(str(settings.data)):
        raise RequestError(f"there is no database {path}", "give the --database or --data that the server has")
    return Service.open(settings)


def _keys(database: str | None, data: Path | None) -> Keys:
    from sorano.serve.keys import Keys

    return Keys(_service(database, data).database)


def _has_keys(settings: Settings) -> bool:
    from sorano.serve.keys import Keys
    from sorano.serve.worker import Service

    service = Service.open(settings)
    try:
        return Keys(service.database).any_made()
    finally:
        service.database.close()


def _days(days: float | None) -> float | None:
    return None if days is None else days * 86_400
