"""The commands of trust: verify, mark, label, keys, trust. Thin, like `sorano.cli`, which mounts them.

stdout is data (a path, or one JSON document), stderr is conversation. `verify` ends with the verdict's exit code; of
several files the gravest one decides: TAMPERED, SUSPICIOUS, a file that could not be read, UNVERIFIED.
"""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sorano.cli.console import report_errors, say
from sorano.errors import RequestError, SoranoError, VideoError
from sorano.trust.printable import printable, printable_line, to_json

if TYPE_CHECKING:
    from sorano.trust.provenance.roots import Root

MOST_PATH = 8192  # characters of a path that is printed
MOST_STDIN_BYTES = 4_000_000_000
VOICE_SUFFIXES = (".ogg", ".oga", ".opus", ".aac", ".amr", ".wma", ".aif", ".aiff", ".caf")  # read, and written as M4A
STILL_SUFFIXES = (".bmp", ".tif", ".tiff", ".avif")  # of pictures that are read and not written
GRAVEST = (6, 7, 1, 8, 9, 0)  # exit codes, the gravest first

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
OverwriteFlag = Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")]
OutputFlag = Annotated[
    Path | None, typer.Option("--output", "-o", help="Where to write. Default: beside the original.")
]
InPlaceFlag = Annotated[bool, typer.Option("--in-place", help="Replace the original itself, in one step.")]
ProducerFlag = Annotated[str, typer.Option(help="Who the label names: a name, or a provider's 27-character code.")]

commands = typer.Typer()
keys_app = typer.Typer(help="Your keys: who signs, and private watermark keys.", no_args_is_help=True)
trust_app = typer.Typer(help="Whose signatures count on this machine.", no_args_is_help=True)
commands.add_typer(keys_app, name="keys")
commands.add_typer(trust_app, name="trust")


@commands.command()
def verify(
    files: Annotated[list[str], typer.Argument(help="Videos, pictures, folders of them, or - for stdin.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of lines.")] = False,
    html: Annotated[Path | None, typer.Option(help="Also write a page that plays the video with its map.")] = None,
    trust: Annotated[Path | None, typer.Option(help="A PEM file of roots to trust as well, this time.")] = None,
    store: Annotated[
        list[Path] | None, typer.Option(help="A folder of manifests to look into as well; may be given again.")
    ] = None,
    bundle: Annotated[Path | None, typer.Option(help="A disclosed private carrier to look for.")] = None,
    triage: Annotated[
        bool, typer.Option("--triage", help="Also look for foreign noise where nothing vouches: triage, not proof.")
    ] = False,
    crjson: Annotated[
        bool, typer.Option("--crjson", help="Print the credential as C2PA's crJSON, and no verdict.")
    ] = False,
    overwrite: OverwriteFlag = False,
) -> None:
    """Say where a video came from: VERIFIED, MATCHED, TAMPERED, SUSPICIOUS or UNVERIFIED, with the evidence."""
    if crjson:
        with report_errors():
            _print_crjson(files, trust)
        return
    with report_errors(), ExitStack() as stack:
        code = _verify(files, as_json, html, trust, store or [], bundle, overwrite, stack, triage)
    raise typer.Exit(code)


@commands.command()
def mark(
    file: Annotated[Path, typer.Argument(help="A video, a picture or a voice of your own.")],
    output: OutputFlag = None,
    capture: Annotated[
        bool, typer.Option("--capture", help="A camera or a meeting recorded it (the default).")
    ] = False,
    made: Annotated[bool, typer.Option("--made", help="AI made it, with another program.")] = False,
    edit_of: Annotated[Path | None, typer.Option(help="AI edited it, from this source.")] = None,
    private: Annotated[
        bool,
        typer.Option("--private", help="Mark with a secret carrier; sorano keys disclose gives it away later."),
    ] = False,
    mark_audio: Annotated[
        bool, typer.Option("--mark-audio", help="Mark what is heard too; the audio is coded again for it.")
    ] = False,
    title: Annotated[str | None, typer.Option(help="Its title in the credential. Default: the file's name.")] = None,
    producer: ProducerFlag = "Sorano",
    audience: Annotated[str, typer.Option(help="Whose law asks for labels: cn, eu, in, us-ca, none.")] = "none",
    visible_label: Annotated[
        bool | None, typer.Option("--visible-label/--no-visible-label", help='Draw "AI-generated" on it.')
    ] = None,
    overwrite: OverwriteFlag = False,
    in_place: InPlaceFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Mark, label and sign a recording, a picture or a voice of your own; stdout gets the path of the new file."""
    with report_errors():
        from sorano.trust import record, sandbox

        if capture + made + (edit_of is not None) > 1:
            raise RequestError("--capture, --made and --edit-of exclude each other")
        kind = "edited" if edit_of is not None else "made" if made else "captured"
        words = record.Marking(
            kind=kind,
            private=private,
            source=edit_of,
            title=title,
            producer=producer,
            audience=audience,
            visible_label=visible_label,
            mark_audio=mark_audio,
        )
        target = _target(file, output, in_place)
        sandbox.require_readable(file)  # what is hostile ends here
        done = record.mark_file(file, target, words, overwrite=overwrite or in_place)
        for note in done.notes:
            say(f"note: {note}")
        if done.carrier_id:
            say(f"private carrier {done.carrier_id}: sorano keys disclose {done.carrier_id}  gives its key away")
        path = os.path.abspath(done.path)
        found = {"path": path, "carrier": done.carrier_id, "notes": done.notes, "report": done.report.to_dict()}
        print(to_json(found) if as_json else printable(path, MOST_PATH))


@commands.command()
def label(
    file: Annotated[Path, typer.Argument(help="An MP4, MOV, PNG, JPEG, WebP, WAV or MP3.")],
    check: Annotated[bool, typer.Option("--check", help="Report what China's and the EU's rules ask for.")] = False,
    output: OutputFlag = None,
    level: Annotated[str, typer.Option(help="1: is AI-generated, 2: possibly, 3: suspected.")] = "1",
    producer: ProducerFlag = "Sorano",
    produce_id: Annotated[str | None, typer.Option(help="The producer's number for it. Default: drawn.")] = None,
    propagator: Annotated[str, typer.Option(help="Who passes it on.")] = "",
    propagate_id: Annotated[str, typer.Option(help="Their number for it.")] = "",
    overwrite: OverwriteFlag = False,
    in_place: InPlaceFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Write an AIGC label (GB 45438-2025) into a copy of a file, or check one item by item."""
    with report_errors():
        from sorano.trust import record
        from sorano.trust.provenance import keys
        from sorano.trust.provenance import label as labels

        if check:
            items = record.check_labels(file)
            if as_json:
                print(to_json({"path": str(file), "items": [asdict(item) for item in items]}))
            else:
                for item in items:
                    print(printable_line(f"{item.state:<8} {item.regime}: {item.item}: {item.detail}"))
            raise typer.Exit(8 if labels.worst(items) == "no" else 0)
        import secrets

        words = labels.Label(
            label=level,
            producer=producer,
            produce_id=produce_id or f"sorano-{secrets.token_hex(8)}",
            propagator=propagator,
            propagate_id=propagate_id,
        )
        labels.check_fields(words)
        words = labels.signed(words, keys.identity())
        target, carrier = record.label_file(
            file, _target(file, output, in_place, is_marked=False), words, overwrite=overwrite or in_place
        )
        say(f"labelled in {carrier}")
        path = os.path.abspath(target)
        print(to_json({"path": path, "carrier": carrier}) if as_json else printable(path, MOST_PATH))


@keys_app.command("init")
def keys_init(
    name: Annotated[str | None, typer.Option(help="Your name or your house's, in the certificate.")] = None,
    chain: Annotated[Path | None, typer.Option(help="The certificates of a signer elsewhere, leaf first.")] = None,
    command: Annotated[
        str | None, typer.Option(help="The program that signs: bytes on stdin, an ES256 signature on stdout.")
    ] = None,
) -> None:
    """Make your keys, or name a signer elsewhere (KMS, card): --chain and --command."""
    with report_errors():
        from sorano.trust.provenance import keys

        if (chain is None) != (command is None):
            raise RequestError("--chain and --command belong together")
        who = keys.init_external(chain, command) if chain is not None and command is not None else keys.init(name)
        say(f"{who.name} signs from now on; others trust you with: sorano keys export")
        print(keys.keys_folder())


@keys_app.command("export")
def keys_export(
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A file. Default: stdout.")] = None,
) -> None:
    """Print your root certificate: what others add to their trust. It holds no secret."""
    with report_errors():
        from sorano.trust.provenance import keys

        _give(keys.export(), output)


@keys_app.command("rotate")
def keys_rotate(
    root: Annotated[bool, typer.Option("--root", help="A new root too; others must trust it anew.")] = False,
) -> None:
    """Replace the key that signs."""
    with report_errors():
        from sorano.trust.provenance import keys

        who = keys.rotate(root=root)
        print(keys.fingerprint(who.leaf)[:16])


@keys_app.command("list")
def keys_list(as_json: JsonFlag = False) -> None:
    """List your certificates and private carriers, without any secret."""
    with report_errors():
        from sorano.trust.provenance import keys

        found = [asdict(one) for one in keys.list_keys()]
        if as_json:
            print(to_json({"keys": found}))
        for one in [] if as_json else found:
            print(f"{one['kind']:<9} {one['fingerprint']}  until {one['valid_until']:<10}  {printable(one['name'])}")


@keys_app.command("disclose")
def keys_disclose(
    carrier: Annotated[str, typer.Argument(help="The carrier's id, as sorano mark --private said.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A file. Default: stdout.")] = None,
) -> None:
    """Give a private carrier's key away in a signed bundle, so that anyone can look for its mark."""
    with report_errors():
        from sorano.trust.provenance import keys

        _give(keys.disclose(carrier) + "\n", output)


@trust_app.command("add")
def trust_add(
    file: Annotated[Path, typer.Argument(help="A root (PEM), or a disclosed carrier.")],
    name: Annotated[
        str | None, typer.Option(help="What its signers are called here. Default: the root's own name.")
    ] = None,
    only_for: Annotated[
        list[str] | None,
        typer.Option(help="Trust it for signers of this name only; may be given again. Default: all."),
    ] = None,
) -> None:
    """Trust a root, or a disclosed carrier. Compare its fingerprint with its owner's by voice."""
    with report_errors():
        from sorano.trust.provenance import roots

        for one in roots.add(file, name, only_for or ()):
            print(_root_line(one))


@trust_app.command("list")
def trust_list(as_json: JsonFlag = False) -> None:
    """List the roots and disclosed carriers that are trusted here."""
    with report_errors():
        from sorano.trust.provenance import roots

        found = roots.list_roots()
        if as_json:
            print(to_json({"roots": [asdict(one) for one in found]}))
        for one in [] if as_json else found:
            print(f"{one.kind:<8} until {one.valid_until:<10}  {_root_line(one)}")


@trust_app.command("remove")
def trust_remove(name: Annotated[str, typer.Argument(help="A fingerprint's beginning, or a name.")]) -> None:
    """Trust a root or a carrier no longer."""
    with report_errors():
        from sorano.trust.provenance import roots

        for one in roots.remove(name):
            print(_root_line(one))


def _root_line(root: Root) -> str:
    """A root or a carrier on one line, with what its certificate calls itself where that is something else."""
    said = printable(root.name)
    if root.subject and root.subject != root.name:
        said += f"  (its certificate says {printable(root.subject)!r})"
    if root.only_for:
        said += f"  only for {', '.join(repr(printable(name)) for name in root.only_for)}"
    return f"{root.fingerprint}  {said}"


def _verify(
    files: list[str],
    as_json: bool,
    html: Path | None,
    trust: Path | None,
    stores: list[Path],
    bundle: Path | None,
    overwrite: bool,
    stack: ExitStack,
    triage: bool,
) -> int:
    from sorano.trust import verify as verifying

    held = [_from_stdin(stack)] if "-" in files else []
    places = [*held, *(Path(name) for name in files if name != "-")]
    asked = list(verifying.files_to_ask(places))
    if not asked:
        raise VideoError("there are no videos and no pictures in what was named", "name the files themselves")
    if html is not None and len(asked) != 1:
        raise RequestError(f"a page shows one file: {len(asked)} were named", "verify them one by one with --html")
    if html is not None and html.exists() and not overwrite:
        raise RequestError(f"{html} exists and is kept", "use --overwrite, or another name with --html")
    codes, documents = [], []
    for path in asked:
        try:
            report, shown = verifying.examine(
                path, trust=trust, stores=stores, bundle=bundle, with_map=html is not None, triage=triage
            )
        except SoranoError as error:
            if len(asked) == 1:
                raise
            codes.append(1)
            documents.append({"path": str(path), "error": error.message})
            say(f"error: {error.message}")
            continue
        if path in held:
            report = replace(report, path="-")
        codes.append(report.verdict.exit_code)
        documents.append(report.to_dict())
        if not as_json:
            print("\n".join(report.lines()))
        if html is not None:
            from sorano.trust.page import write_page

            write_page(html, report, path, shown)
            say(f"page: {os.path.abspath(html)}")
    if as_json:
        print(to_json(documents[0] if len(files) == 1 and len(asked) == 1 else {"reports": documents}))
    return next(code for code in GRAVEST if code in codes)


def _print_crjson(files: list[str], trust: Path | None) -> None:
    """The crJSON of one file. Raises RequestError for several, VideoError where there is no credential."""
    import json

    from sorano.trust.provenance import credentials, roots

    if len(files) != 1 or files[0] == "-" or Path(files[0]).is_dir():
        raise RequestError("crJSON is printed of one file", "name one file")
    text = credentials.crjson(Path(files[0]), roots.anchors(trust))
    if text is None:
        raise VideoError(f"{files[0]} holds no credential")
    print(to_json(json.loads(text), indent=1))


def _from_stdin(stack: ExitStack) -> Path:
    """stdin as a file: what is read twice must lie somewhere."""
    held: Any = stack.enter_context(tempfile.NamedTemporaryFile(prefix="sorano-", suffix=".stdin"))
    count = 0
    while block := sys.stdin.buffer.read(1 << 20):
        count += len(block)
        if count > MOST_STDIN_BYTES:
            raise VideoError(f"more than {MOST_STDIN_BYTES:,} bytes came on stdin", "name the file instead")
        held.write(block)
    held.flush()
    return Path(held.name)


def _target(file: Path, output: Path | None, in_place: bool, *, is_marked: bool = True) -> Path | None:
    """Where to write; a folder means inside it. Raises RequestError for what is no place for a file."""
    if in_place and output is not None:
        raise RequestError("--in-place and --output exclude each other")
    if output is not None and output.exists() and file.exists() and output.samefile(file):
        raise RequestError(f"{output} is the original", "use --in-place to replace it")
    if output is not None and output.exists() and not output.is_file() and not output.is_dir():
        raise RequestError(f"{output} is not a file that can be written", f"name a file: -o {file.stem}.marked.mp4")
    if output is not None and (output.is_dir() or str(output).endswith(("/", os.sep))):
        if not output.is_dir():
            raise RequestError(f"the folder {output} does not exist", f"mkdir -p {output}")
        return _inside(output, file, is_marked=is_marked)
    return file if in_place else output


def _inside(folder: Path, file: Path, *, is_marked: bool) -> Path:
    """A name in a folder for what is made of a file: its own, with a suffix that is written; the original is kept."""
    from sorano.trust.record import AUDIO_KINDS, VIDEO_SUFFIXES
    from sorano.video import IMAGE_SUFFIXES

    suffix = file.suffix
    if is_marked and suffix.lower() not in (*VIDEO_SUFFIXES, *IMAGE_SUFFIXES, *AUDIO_KINDS):
        kinds = {**dict.fromkeys(STILL_SUFFIXES, ".png"), **dict.fromkeys(VOICE_SUFFIXES, ".m4a")}
        suffix = kinds.get(suffix.lower(), ".mp4")
    name = folder / f"{file.stem}{suffix}"
    return name if not name.exists() else folder / f"{file.stem}.{'marked' if is_marked else 'labelled'}{suffix}"


def _give(text: str, output: Path | None) -> None:
    if output is None:
        print(text, end="")
        return
    if output.exists():
        raise RequestError(f"{output} exists and is kept", "use another name with -o")
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RequestError(f"{output} cannot be written: {error.strerror}") from error
    print(os.path.abspath(output))
