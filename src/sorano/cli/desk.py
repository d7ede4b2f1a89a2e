"""The commands of the fraud desk: serve, demo, audit, policy, keys. Nothing heavy is imported before it is needed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sorano import extras
from sorano.cli.console import print_error, report_errors, say
from sorano.errors import EXIT_UNEXPECTED, RequestError
from sorano.files import write_atomic
from sorano.trust.printable import printable_line, to_json

if TYPE_CHECKING:
    from sorano.desk.config import DeskSettings
    from sorano.desk.service import Desk

WHERE = "Where things are"

Database = Annotated[
    str | None,
    typer.Option(
        help="postgresql://USER@HOST/NAME, or sqlite:///PATH. Default: SORANO_DESK_DATABASE, else a file in --data.",
        rich_help_panel=WHERE,
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(help="The desk's folder. Default: SORANO_DESK_DATA, else the user's own.", rich_help_panel=WHERE),
]
Anchor = Annotated[
    Path | None,
    typer.Option(
        help="Where the end of the receipts is noted, apart from the database. Default: beside the keys.",
        rich_help_panel=WHERE,
    ),
]
Origin = Annotated[
    str | None,
    typer.Option(help="What people see in their browser: https://desk.example.com. Default: http://localhost:PORT."),
]
Port = Annotated[int, typer.Option(help="The port to listen on.", min=1, max=65535, rich_help_panel=WHERE)]
PolicyFile = Annotated[Path | None, typer.Option("--policy", help="A TOML file. Default: the one of Sorano.")]
Endpoint = Annotated[
    str,
    typer.Option(
        help="Base URL of an OpenAI-compatible endpoint that words answers (its key: SORANO_DESK_ENDPOINT_KEY). "
        "Default: fixed sentences, and nothing is sent anywhere.",
        metavar="URL",
        rich_help_panel="Answers",
    ),
]
EndpointModel = Annotated[str, typer.Option("--model", help="The model's name there.", rich_help_panel="Answers")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]

commands = typer.Typer()
desk_app = typer.Typer(help="Confirm risky requests on enrolled devices, outside the call.", no_args_is_help=True)
policy_app = typer.Typer(help="The desk's policy.", no_args_is_help=True)
keys_app = typer.Typer(help="API keys of the desk: for what files, executes, guards, audits.", no_args_is_help=True)
call_app = typer.Typer(help="The guard of calls.", no_args_is_help=True)
commands.add_typer(desk_app, name="desk")
desk_app.add_typer(call_app, name="call")
desk_app.add_typer(policy_app, name="policy")
desk_app.add_typer(keys_app, name="keys")


@desk_app.command()
def init(
    admin: Annotated[
        list[str], typer.Option(help="HANDLE=NAME of a first administrator; three or more.", metavar="HANDLE=NAME")
    ],
    database: Database = None,
    data: Data = None,
    anchor: Anchor = None,
) -> None:
    """Begin a desk: three administrators or more, each of whom enrols a device with a code that is shown this once."""
    with report_errors():
        desk = _desk(database, data, anchor)
        pairs = [one.partition("=")[::2] for one in admin]
        for handle, code in _founded(desk, [(handle, name or handle) for handle, name in pairs]):
            print(printable_line(f"{handle}  {code}"))
        say("Hand each code over in person. Each opens the desk's page under Enrol, once, within seven days.")


@desk_app.command()
def serve(
    host: Annotated[str, typer.Option(help="The address to listen on.", rich_help_panel=WHERE)] = "127.0.0.1",
    port: Port = 8010,
    origin: Origin = None,
    policy: PolicyFile = None,
    endpoint: Endpoint = "",
    model: EndpointModel = "",
    database: Database = None,
    data: Data = None,
    anchor: Anchor = None,
) -> None:
    """Answer at the desk's page and API. stdout gets the address; stderr one JSON line for each thing that happens."""
    with report_errors():
        given = {"host": host, "endpoint": endpoint, "endpoint_model": model}
        desk = _desk(database, data, anchor, port=port, origin=origin, policy=policy, **given)
        from sorano.desk.server import serve as run

        run(desk, lambda address: print(address, flush=True))


@desk_app.command()
def demo(as_json: AsJson = False) -> None:
    """Replay the Hong Kong case of January 2024 (15 transfers, HK$200M, five accounts) against a desk.

    Exit code 1 if anything that was not approved is released, or the honest request is not.
    """
    with report_errors():
        extras.require("the desk", "desk")
        from sorano.desk.demo import run
        from sorano.web import logs

        logs.least = "error"  # the desk's own lines would hide the story

        say("15 transfers, HK$200,000,000, five accounts; everybody else in the call is a fake:")
        found = run(say)
        refused = {f"{name}: {code}": 0 for name, code in found.attempts}
        for name, code in found.attempts:
            refused[f"{name}: {code}"] += 1
        for line, count in refused.items():
            say(f"  {count} x {line}")
        say(f"why: {', '.join(f'{code} {count}' for code, count in sorted(found.reasons.items()))}")
        say(f"honest requests released: {found.honest_released} of {found.honest_filed}")
        say(f"receipts audited: {found.audited.receipts}, with {found.audited.assertions} assertions")
        told = {
            "filed": found.filed,
            "released": found.released,
            "released_hkd": str(found.released_hkd),
            "states": found.states,
            "honest_filed": found.honest_filed,
            "honest_released": found.honest_released,
            "receipts": found.audited.receipts,
            "assertions": found.audited.assertions,
        }
        print(to_json(told) if as_json else f"{found.released} of {found.filed} released")
        if found.released or found.honest_released != found.honest_filed:
            print_error("the desk did not do what it is for", "please report this")
            raise typer.Exit(EXIT_UNEXPECTED)


@desk_app.command()
def audit(
    file: Annotated[
        Path | None, typer.Argument(help="An export of the receipts. Default: those of the desk here.")
    ] = None,
    origin: Origin = None,
    root: Annotated[
        Path | None, typer.Option(help="The certificate that must stand above the signer's. Default: one's own.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Keep the export there.")] = None,
    port: Port = 8010,
    database: Database = None,
    data: Data = None,
    anchor: Anchor = None,
    as_json: AsJson = False,
) -> None:
    """Check the receipts: the chain, its signatures, every assertion, every release. Exit code 6: they were changed."""
    with report_errors():
        extras.require("the desk", "desk")
        from dataclasses import asdict

        from sorano.desk.audit import audit as check
        from sorano.trust.provenance import keys

        if file is not None:
            content, origin = file.read_bytes(), origin or f"http://localhost:{port}"
        else:
            desk = _desk(database, data, anchor, port=port, origin=origin)
            content, origin = desk.export(), desk.settings.origin
        if output is not None:
            if output.exists():
                raise RequestError(f"{output} is there already and is kept", "name another file")
            write_atomic(output, content, private=True)
        found = check(content, origin, keys.export() if root is None else root.read_text(encoding="ascii"))
        if as_json:
            print(to_json(asdict(found)))
            return
        print(
            f"{found.receipts} receipts, {found.assertions} assertions, {found.released} released: nothing was changed"
        )
        say(f"signed by {found.signer_name} ({found.signer[:16]}) at {found.at}; the last receipt is {found.end[:16]}")


@desk_app.command()
def accept(
    reason: Annotated[str, typer.Argument(help="Why the database or the clock is right as it is.")],
    database: Database = None,
    data: Data = None,
    anchor: Anchor = None,
) -> None:
    """Deny all that is open, and go on with the database and the clock as they are: after a restoration, say."""
    with report_errors():
        if not reason.strip():
            raise RequestError("a reason is kept in the receipts", 'say what was found out: sorano desk accept "..."')
        denied = _desk(database, data, anchor).accept(reason[:500])
        print(denied)
        say(f"{denied} open requests were denied; restart the desk if it runs")


@desk_app.command()
def posture(
    host: Annotated[
        str, typer.Option(help="The address that the desk listens on.", rich_help_panel=WHERE)
    ] = "127.0.0.1",
    port: Port = 8010,
    origin: Origin = None,
    policy: PolicyFile = None,
    database: Database = None,
    data: Data = None,
    anchor: Anchor = None,
    media: Annotated[
        Path | None, typer.Option(help="A folder whose media must be labelled or signed.", metavar="FOLDER")
    ] = None,
    gate_log: Annotated[
        Path | None, typer.Option(help="What sorano desk gate wrote to stderr.", metavar="FILE")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Look at keys, staff, policy, receipts, media; each finding has an action. Exit code 1: something is bad."""
    with report_errors():
        where = {"host": host, "port": port, "origin": origin, "policy": policy}
        desk = _desk(database, data, anchor, media=media, gate_log=gate_log, **where)
        from sorano.desk.posture import BAD, examine

        found = examine(desk)
        if as_json:
            print(to_json({"findings": [one.to_dict() for one in found]}))
        for one in () if as_json else found:
            print(printable_line(f"{one.severity:<5} {one.id:<18} {one.found}"))
            print(printable_line(f"      {one.action.what}, for {one.action.why}: {one.action.command}"))
        if any(one.severity == BAD for one in found):
            raise typer.Exit(EXIT_UNEXPECTED)


@desk_app.command()
def gate(
    upstream: Annotated[str, typer.Option(help="The server behind the gate: http://127.0.0.1:9000.", metavar="URL")],
    accept: Annotated[
        list[str] | None,
        typer.Option(
            help="A verdict that passes. May be given again. Default: VERIFIED, MATCHED and UNVERIFIED.",
            metavar="VERDICT",
        ),
    ] = None,
    max_upload: Annotated[int, typer.Option(help="MB of one request.", min=1)] = 256,
    host: Annotated[str, typer.Option(help="The address to listen on.", rich_help_panel=WHERE)] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(help="0 takes any that is free.", min=0, max=65535, rich_help_panel=WHERE)
    ] = 8020,
) -> None:
    """Verify uploads before they reach a server: a reverse proxy that passes on what its policy takes.

    stdout gets the address; stderr one JSON line for each piece of media.
    """
    with report_errors():
        extras.require("the desk", "desk")
        from sorano.desk.gate import PASSING, GateSettings
        from sorano.desk.gate import serve as run

        passing = tuple(one.upper() for one in accept) if accept else PASSING
        settings = GateSettings(
            upstream=upstream, host=host, port=port, passing=passing, most_body_bytes=max_upload << 20
        )
        run(settings, lambda address: print(address, flush=True))


@desk_app.command()
def ask(
    question: Annotated[str, typer.Argument(help="In your own words.")],
    recording: Annotated[
        list[Path] | None, typer.Option(help="A recording of the call, which is verified. May be given again.")
    ] = None,
    endpoint: Endpoint = "",
    model: EndpointModel = "",
    port: Port = 8010,
    origin: Origin = None,
    policy: PolicyFile = None,
    database: Database = None,
    data: Data = None,
    anchor: Anchor = None,
    as_json: AsJson = False,
) -> None:
    """Answer a question about the desk from its findings and requests, each sentence with what it rests on."""
    with report_errors():
        given = {"endpoint": endpoint, "endpoint_model": model}
        desk = _desk(database, data, anchor, port=port, origin=origin, policy=policy, **given)
        from sorano.desk.assistant import ask as answer
        from sorano.desk.assistant import endpoint_of
        from sorano.web.problems import Problem

        try:
            found = answer(desk, question, endpoint=endpoint_of(desk.settings), recordings=recording or ())
        except Problem as problem:
            raise RequestError(problem.message) from problem
        if as_json:
            print(to_json(found.to_dict()))
            return
        for one in found.sentences:
            print(printable_line(f"{one.text} [{', '.join(one.ids)}]"))
        if not found.sentences:
            say("nothing here answers that; sorano desk posture names all findings")
        if found.dropped:
            say(f"{found.dropped} sentences of the model cited nothing that it had read, and were dropped")


@desk_app.command()
def case(
    request: Annotated[str, typer.Argument(help="A request's id.", metavar="ID")],
    recording: Annotated[
        list[Path] | None, typer.Option(help="A recording of the call, which is verified. May be given again.")
    ] = None,
    page: Annotated[
        Path | None, typer.Option(help="Write the case for people too: a PDF by the name's ending, else an HTML page.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the case there, not to stdout.")] = None,
    port: Port = 8010,
    origin: Origin = None,
    policy: PolicyFile = None,
    database: Database = None,
    data: Data = None,
    anchor: Anchor = None,
) -> None:
    """Make the signed case file of a request: its words, receipts, recordings, findings, and what to do next."""
    with report_errors():
        desk = _desk(database, data, anchor, port=port, origin=origin, policy=policy)
        from sorano.desk.case_pages import case_page, case_pdf
        from sorano.desk.cases import build_case
        from sorano.web.problems import Problem

        for path in (one for one in (page, output) if one is not None and one.exists()):
            raise RequestError(f"{path} is there already and is kept", "name another file")
        try:
            made = build_case(desk, request, recording or ())
        except Problem as problem:
            raise RequestError(problem.message) from problem
        if page is not None:
            is_pdf = page.suffix.lower() == ".pdf"
            write_atomic(page, case_pdf(made) if is_pdf else case_page(made), private=True)
        if output is not None:
            write_atomic(output, made, private=True)
        print(output.absolute() if output is not None else made)


@call_app.command("demo")
def demo_call(
    video: Annotated[
        list[Path] | None,
        typer.Option(help="What the cameras show, one after the other. Default: drawn figures. May be given again."),
    ] = None,
    seconds: Annotated[float, typer.Option(help="How long the call is.", min=12, max=3600)] = 20.0,
    swap_at: Annotated[float, typer.Option(help="When the second participant's pictures are swapped.", min=4)] = 9.0,
    as_json: AsJson = False,
) -> None:
    """Hold a call on this machine: one honest participant, one whose pictures are swapped, one guest.

    Exit code 1 unless the swapped one is found within 5 s, the honest one never is, and the guest is only a picture.
    """
    with report_errors():
        extras.require("this command", "desk", "call")
        if swap_at > seconds - 6:
            raise RequestError(f"{seconds:g} s are too short to swap at {swap_at:g} s", "end 6 s later or more")
        from dataclasses import asdict

        from sorano.desk.call.demo import run
        from sorano.web import logs

        logs.least = "error"  # the desk's own lines would hide the story
        say(f"three join; at {swap_at:g} s the treasurer's pictures are swapped between marker and coder:")
        found = run(say, seconds=seconds, swap_at=swap_at, videos=tuple(video or ()))
        say(f"what the first two say to each other: {found.words.get('en', '')} ({found.words.get('zh', '')})")
        told = {"as_expected": found.as_expected, **asdict(found)}
        after = "never" if found.flagged_at is None else f"after {found.flagged_at - found.swapped_at:.1f} s"
        print(to_json(told) if as_json else f"swapped pictures found {after}; the call is {found.verdict}")
        if not found.as_expected:
            print_error("the guard did not do what it is for", "run it on a quiet machine; then report it")
            raise typer.Exit(EXIT_UNEXPECTED)


@desk_app.command()
def record(
    call: Annotated[str, typer.Argument(help="The call's id, as its page shows it.", metavar="CALL")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The MP4 to write.")],
    address: Annotated[str, typer.Option(help="The desk's address.", metavar="URL")] = "http://localhost:8010",
    seconds: Annotated[float, typer.Option(help="At most; Ctrl-C ends it too.", min=1)] = 14_400.0,
    key: Annotated[str | None, typer.Option(help="A key with the scope guard.", envvar="SORANO_DESK_KEY")] = None,
    as_json: AsJson = False,
) -> None:
    """Record a call: the tiles with their states, marked and signed, and the signed timeline of verdicts beside it."""
    with report_errors():
        extras.require("this command", "desk", "call")
        if not key:
            raise RequestError("a recorder needs a key", "sorano desk keys create recorder --scope guard")
        from dataclasses import asdict

        from sorano.desk.call.record import record_call

        found = record_call(address, call, key, output, seconds)
        say(f"{found.seconds:.1f} s; the call is {found.verdict}; its timeline is {found.timeline}")
        told = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(found).items()}
        print(to_json(told) if as_json else output.absolute())


@policy_app.command("check")
def check_policy(
    file: Annotated[
        Path | None, typer.Argument(help="A TOML file. Default: the policy that comes with Sorano.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check a policy file, and show what it says."""
    with report_errors():
        from sorano.desk.policy import USUAL, describe_policy, read_policy

        found = describe_policy(read_policy(file))
        if as_json:
            print(to_json(found))
            return
        for name, value in found.items():
            print(printable_line(f"{name:<18} {value}"))
        say(f"{file or USUAL}: good")


@keys_app.command("create")
def create_key(
    name: Annotated[str, typer.Argument(help="What uses it.")],
    scope: Annotated[list[str], typer.Option(help="file, execute, guard or audit. May be given again.")],
    days: Annotated[float | None, typer.Option(help="Days that it works. Default: until it is revoked.", min=0)] = None,
    database: Database = None,
    data: Data = None,
    anchor: Anchor = None,
) -> None:
    """Make an API key. stdout gets the key; it is not shown again."""
    with report_errors():
        key_id, key = _desk(database, data, anchor).keys.create_with(name, scope, {}, days)
        print(f"{key_id} of {name}; it is not shown again", file=sys.stderr)
        print(key)


@keys_app.command("list")
def list_keys(database: Database = None, data: Data = None, anchor: Anchor = None) -> None:
    """List the keys: their ids and scopes, never themselves."""
    with report_errors():
        for row in _desk(database, data, anchor).keys.all():
            state = "revoked" if row["revoked_at"] else "ends" if row["expires_at"] else "works"
            print(
                printable_line(f"{row['id']}  {state:<8} {row['hint']:<22} {','.join(row['scopes']):<18} {row['name']}")
            )


@keys_app.command("revoke")
def revoke_key(
    key_id: Annotated[str, typer.Argument(metavar="ID")],
    database: Database = None,
    data: Data = None,
    anchor: Anchor = None,
) -> None:
    """End a key at once."""
    with report_errors():
        _desk(database, data, anchor).keys.revoke(key_id)
        print(key_id)


def _founded(desk: Desk, pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    from sorano.web.problems import Problem

    try:
        return desk.directory.found(pairs)
    except Problem as problem:
        raise RequestError(problem.message) from problem


def _settings(
    database: str | None,
    data: Path | None,
    anchor: Path | None,
    *,
    port: int = 8010,
    origin: str | None = None,
    **words: Any,
) -> DeskSettings:
    from sorano.desk.config import DeskSettings, data_folder, database_url

    folder = data_folder(data)
    return DeskSettings(
        data=folder,
        database=database_url(database, folder),
        anchor=anchor,
        port=port,
        origin=origin or f"http://localhost:{port}",
        **words,
    )


def _desk(database: str | None, data: Path | None, anchor: Path | None, **words: Any) -> Desk:
    """The desk of the options. Raises RequestError."""
    extras.require("the desk", "desk")
    from sorano.desk.service import Desk

    return Desk.open(_settings(database, data, anchor, **words))
