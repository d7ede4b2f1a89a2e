"""Open weights: a model from the hub, every byte checked, then there for use offline.

    list -> what is missing -> room on the disk -> fetch, resumed -> digests -> record

Files lie in huggingface_hub's own cache, in its layout: other programs find them there, and what those have fetched is
not fetched again. `HF_ENDPOINT`, `HF_HOME`, `HF_TOKEN`, `HF_HUB_OFFLINE` and the others mean what they mean there. Only
what a diffusers folder needs is taken, and never a pickle. The digests that were checked are kept in
`sorano/COMMIT.json` in the repository's folder of the cache, so that a later load can check the files.

Not covered: hubs that state no digests, and bytes that change on the disk while size and time stay (`pull` with
`check=True` reads them all).

Importing this module imports a part of huggingface_hub; import it where it is used.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from huggingface_hub import constants

from sorano.errors import CapacityError, CheckpointError, RequestError
from sorano.fetch import (
    DIGEST,
    Fetch,
    Listing,
    ModelSource,
    Progress,
    RemoteFile,
    Unreachable,
    digest_of,
    find_source,
    home_of,
    link,
    list_files,
    nearest,
    open_session,
    partial_of,
    report_fetch_errors,
)
from sorano.files import write_atomic
from sorano.models.registry import read_configs
from sorano.models.wan.configs import ModelConfigs
from sorano.plan.generate import estimate_generate, format_bytes
from sorano.plan.machine import Machine
from sorano.presets import DEFAULT_PRESET, PRESETS, Preset, preset_of_folder
from sorano.shapes import VideoShape, parse_size

Say = Callable[[str], None]

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
RECORDS = "sorano"  # in the repository's folder of the cache: what was fetched, by commit; marks it as ours
MACHINES = (("cuda", "bfloat16"), ("cpu", "bfloat16"), ("cpu", "float32"))  # whose memory `show` states


@dataclass(frozen=True)
class ModelEntry:
    """A model that can be used or pulled, and what of it is on this machine."""

    name: str
    repo: str | None
    licence: str
    state: str  # "embedded", "pulled", "cached" (by another program), "incomplete" or "not pulled"
    disk_bytes: int  # of this machine
    download_bytes: int | None  # of the whole; None where nothing says
    folder: Path | None
    commit: str | None

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {**asdict(self), "folder": str(self.folder) if self.folder else None}


def _silent(*_: object) -> None:
    """Nobody listens."""


def pull(name: str, *, check: bool = False, progress: Progress = _silent, say: Say = _silent) -> Path:
    """Fetch what is missing of a preset, or of a repository OWNER/NAME, and return its diffusers folder.

    Files that are there and unchanged since they were checked are left alone; `check` reads them all. A file with a
    wrong digest is removed, so that a second pull mends it. Raises RequestError for a name that is nothing,
    CapacityError where the disk is too small, and CheckpointError where the hub refuses, cannot be reached, or sent
    something else than it states.
    """
    source = find_source(name)
    if source.repo is None:
        assert source.preset is not None
        say(f"{source.name} comes with Sorano: there is nothing to fetch")
        assert source.preset.folder is not None
        return source.preset.folder
    try:
        with report_fetch_errors(source, "check the network, the proxy (HTTPS_PROXY) and HF_ENDPOINT"):
            open_session()
            listing = list_files(source)
    except Unreachable as error:
        folder = find(source.repo)
        if folder is None:
            raise
        say(f"{error.message}; the copy on this machine is used")
        check_files(folder)
        if not _read_record(folder):
            _check_blobs(folder, progress)
        return folder
    with report_fetch_errors(source, f"{source.again} goes on where it was"):
        _refuse_foreign(source, listing)
        missing = _missing(listing, check, progress, say)
        _require_room(source, listing, missing, say)
        (listing.home / RECORDS).mkdir(parents=True, exist_ok=True)
        fetch = Fetch(source, listing, missing, progress)
        fetch.run(file for file in missing if file.name.endswith(".json"))
        _require_runnable(listing)
        _require_shards(listing)
        fetch.run(file for file in missing if not file.name.endswith(".json"))
        _write_record(listing)
    return listing.folder


def find(preset: Preset | str) -> Path | None:
    """The diffusers folder of a preset, or of a repository, on this machine; None where it is not there whole.

    What was pulled comes first; else what another program has fetched whole into the same cache (its branch main).
    """
    repo = preset.repo if isinstance(preset, Preset) else preset
    if repo is None:
        assert isinstance(preset, Preset) and preset.folder is not None
        return preset.folder if preset.folder.is_dir() else None
    home = home_of(repo)
    records = sorted(home.glob(f"{RECORDS}/*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    folders = (home / "snapshots" / record.stem for record in records)
    return next((folder for folder in folders if folder.is_dir()), None) or _cached(home)


def _cached(home: Path) -> Path | None:
    """The snapshot of main in a repository's home, where every file that its index names is there."""
    try:
        folder = home / "snapshots" / (home / "refs" / "main").read_text(encoding="ascii").strip()
        index = json.loads((folder / "model_index.json").read_text(encoding="utf-8-sig"))
        parts = {name for name, classes in index.items() if isinstance(classes, list) and any(classes)}
        parts |= {"scheduler", "text_encoder", "tokenizer", "transformer", "vae"}
        return folder if all(_is_whole(folder / name) for name in parts) else None
    except (OSError, ValueError, AttributeError):
        return None


def _is_whole(part: Path) -> bool:
    """Whether a part of a folder has its files: weights where its config is of a network, and every listed shard."""
    if not part.is_dir() or not any(part.iterdir()):
        return False
    if not (part / "config.json").is_file():
        return True  # a scheduler, a tokenizer
    indexes = list(part.glob("*.safetensors.index.json"))
    for index in indexes:
        shards = json.loads(index.read_text(encoding="utf-8-sig")).get("weight_map", {}).values()
        if shards and all((part / str(shard)).is_file() for shard in set(shards)):
            return True
    return not indexes and any(path.is_file() for path in part.glob("*.safetensors"))


def _check_blobs(folder: Path, progress: Progress) -> None:
    """Raise CheckpointError for a file of the cache whose bytes do not have the digest that its blob is named after."""
    files = {path: path.resolve() for path in sorted(folder.rglob("*")) if path.is_file()}
    total, done = sum(blob.stat().st_size for blob in files.values()), 0
    for path, blob in files.items():
        size = blob.stat().st_size
        if DIGEST.fullmatch(blob.name):
            file = RemoteFile(path.name, size, blob.name)
            found = digest_of(blob, file.hasher())
            if found != blob.name:
                raise CheckpointError(
                    f"{path} is corrupt: its {file.digest_kind} is {found}, not {blob.name}",
                    "fetch it again where there is a network",
                )
        done += size
        progress("check", done, total)


def located(preset: Preset) -> Preset:
    """The preset with its folder, whose files are as they were pulled. A repository's is that of its folder.

    Raises CheckpointError, with the command that fetches it, where it is not on this machine, and naming the file where
    one is missing or corrupt.
    """
    if preset.folder is not None:
        return preset
    folder = find(preset)
    if folder is None and preset.configs is None:
        raise CheckpointError(
            f"{preset.name} is not a folder, and was not pulled to this machine",
            f"sorano pull {preset.name}, where it is a repository of the hub; the nearest preset is"
            f" {nearest(preset.name)}",
        )
    if folder is None:
        size = f" (up to {format_bytes(preset.download_bytes)})" if preset.download_bytes else ""
        raise CheckpointError(f"{preset.name} is not on this machine", f"sorano pull {preset.name}{size}")
    check_files(folder)
    record = _read_record(folder)
    note = (
        None if record else f"{preset.name} was fetched by another program: sorano pull {preset.name} checks its files"
    )
    if preset.configs is None:
        own = preset_of_folder(folder, preset.name)
        words = "; ".join(text for text in (own.note, note) if text) or None
        return replace(own, repo=preset.repo, licence=record.get("licence", preset.licence), note=words)
    return replace(preset, folder=folder, note=note or preset.note)


def digests(folder: Path) -> dict[str, str]:
    """The SHA-256 by path in a pulled folder, as it was checked; empty for a folder that was not pulled."""
    return {name: entry["sha256"] for name, entry in _read_record(folder).get("files", {}).items()}


def check_files(folder: Path) -> None:
    """Raise CheckpointError for a file of a pulled folder that is missing or corrupt, as a load should before use.

    Files whose size and time are those of the last check are not read again.
    """
    record = _read_record(folder)
    changed = False
    for name, entry in record.get("files", {}).items():
        path = folder / name
        hint = f"sorano pull {record['repo']} mends it"
        if not path.is_file():
            raise CheckpointError(f"{path} is missing", hint)
        if _as_checked(path, entry):
            continue
        found = digest_of(path, hashlib.sha256())
        if found != entry["sha256"]:
            raise CheckpointError(f"{path} is corrupt: its SHA-256 is {found}, not {entry['sha256']}", hint)
        entry["mtime_ns"] = path.stat().st_mtime_ns
        changed = True
    if changed:
        with suppress(OSError):  # a cache that may only be read is checked again the next time
            _write_json(_record_file(folder), record)


def list_models() -> list[ModelEntry]:
    """Every preset, then every other repository that can be used, with what is on this machine."""
    names = [preset.name for preset in PRESETS.values()]
    repos = {preset.repo for preset in PRESETS.values()}
    homes = sorted(path for path in Path(constants.HF_HUB_CACHE).glob("models--*--*") if _is_ours(path))
    others = (home.name.removeprefix("models--").replace("--", "/", 1) for home in homes)
    return [_stored(find_source(name)) for name in [*names, *(repo for repo in others if repo not in repos)]]


def _is_ours(home: Path) -> bool:
    """Whether a repository in the cache was pulled, or is one that Sorano runs, fetched whole by another program."""
    if (home / RECORDS).is_dir():
        return True
    folder = _cached(home)
    try:
        return folder is not None and bool(read_configs(folder))
    except CheckpointError:
        return False


def show(name: str) -> dict[str, Any]:
    """What there is to know of a model without asking the hub: licence, size, parameters, memory, settings.

    Memory is that of one video as the preset makes it, by device and dtype: with every network loaded, and the least
    with which it is made. Parameters and memory are None where the configuration is not on this machine, or not one
    that Sorano runs.
    """
    source = find_source(name)
    stored = _stored(source)
    preset = source.preset
    if preset is None and stored.folder is not None:
        preset = preset_of_folder(stored.folder, name)
    configs = _configs(preset, stored.folder)
    return {
        **stored.to_dict(),
        "parameters": _parameters(configs) if configs else None,
        "memory_bytes": _memory(preset, configs, free_bytes=None) if preset and configs else None,
        "least_memory_bytes": _memory(preset, configs, free_bytes=0) if preset and configs else None,
        "settings": _settings(preset) if preset else None,
    }


def remove(name: str) -> int:
    """Take a pulled model off this machine, half-fetched files too, and return the bytes that this freed."""
    source = find_source(name)
    if source.repo is None:
        raise RequestError(f"{source.name} comes with Sorano and stays")
    home = home_of(source.repo)
    if not (home / RECORDS).is_dir():
        raise RequestError(f"{source.name} was not pulled to this machine", "`sorano list` shows what was")
    freed = _disk_bytes(home)
    with report_fetch_errors(source, ""):
        shutil.rmtree(home)
    shutil.rmtree(home.parent / ".locks" / home.name, ignore_errors=True)
    return freed


# What the hub has.


def _refuse_foreign(source: ModelSource, listing: Listing) -> None:
    """Raises CheckpointError for a repository that is no diffusers folder, or has pickles where weights should be."""
    names = set(listing.names)
    safe = {_parent(name) for name in names if name.endswith(".safetensors")}
    for name in sorted(names):
        needed = not safe or f"{_parent(name)}/config.json" in names
        if name.endswith(PICKLES) and _parent(name) not in safe and needed:
            raise CheckpointError(
                f"{listing.repo} has {name}, a pickle, which can run code when it is loaded, and is refused",
                "where you trust it, convert it: save_pretrained(..., safe_serialization=True); then --preset PATH",
            )
    if "model_index.json" not in names:
        raise CheckpointError(
            f"{listing.repo} is not a diffusers folder: it has no model_index.json",
            f"the nearest preset is {nearest(source.name)}; `sorano list` shows them all",
        )


def _require_runnable(listing: Listing) -> None:
    """Raises CheckpointError, before anything large is fetched, for what Sorano does not run.

    That is another pipeline, another kind of network, or a scheduler whose numbers would not be its own.
    """
    from sorano.sampling.schedule import read_scheduler_config

    scheduler = "scheduler/scheduler_config.json"
    try:
        read_configs(listing.folder)
        if (listing.folder / scheduler).is_file():
            read_scheduler_config(_read_json(listing.folder / scheduler))
    except (CheckpointError, ValueError) as error:
        reason = error.message if isinstance(error, CheckpointError) else f"{scheduler}: {error}"
        raise CheckpointError(
            f"Sorano cannot run {listing.repo}: {reason}", "`sorano list` shows what can be pulled"
        ) from error


def _require_shards(listing: Listing) -> None:
    """Raises CheckpointError for an index that lists a shard which the repository does not hold."""
    for file in listing.files:
        if not file.name.endswith(".safetensors.index.json"):
            continue
        weights = _read_json(listing.folder / file.name).get("weight_map")
        shards = {str(shard) for shard in weights.values()} if isinstance(weights, dict) else set()
        absent = sorted(shard for shard in shards if f"{_parent(file.name)}/{shard}" not in listing.names)
        if absent or not shards:
            raise CheckpointError(
                f"{file.name} of {listing.repo} lists {absent[0] if absent else 'nothing'}, which is not there",
                "its owner has to mend it",
            )


# What is on this machine.


def _missing(listing: Listing, check: bool, progress: Progress, say: Say) -> list[RemoteFile]:
    """The files to fetch. Those in the cache that nobody checked are read; a wrong one is removed."""
    entries = {} if check else _read_record(listing.folder).get("files", {})
    held: list[tuple[RemoteFile, Path]] = []
    missing: list[RemoteFile] = []
    for file in listing.files:
        blob, pointer = listing.home / "blobs" / file.digest, listing.folder / file.name
        path = pointer if pointer.exists() else blob
        if not path.exists():
            missing.append(file)
        elif file.name not in entries or not _as_checked(path, entries[file.name]):
            held.append((file, path))
    total, done = sum(file.size for file, _ in held), 0
    for file, path in held:
        blob, pointer = listing.home / "blobs" / file.digest, listing.folder / file.name
        if digest_of(path, file.hasher()) != file.digest:
            say(f"{pointer} is corrupt and is fetched again")
            for name in (path.resolve(), blob, pointer):
                name.unlink(missing_ok=True)
            missing.append(file)
        elif path == blob:
            link(blob, pointer)
        done += file.size
        progress("check", done, total)
    return missing


def _require_room(source: ModelSource, listing: Listing, missing: list[RemoteFile], say: Say) -> None:
    """Raises CapacityError, with what to free, where the disk cannot hold the missing files."""
    partials = ((file, partial_of(listing.home / "blobs" / file.digest)) for file in missing)
    wanted = sum(file.size - (partial.stat().st_size if partial.exists() else 0) for file, partial in partials)
    cache = Path(constants.HF_HUB_CACHE)
    free = shutil.disk_usage(next(path for path in (cache, *cache.absolute().parents) if path.exists())).free
    if wanted > free:
        hint = f"free {format_bytes(wanted - free)} there, or set HF_HOME to a folder on a larger disk"
        removable = [model for model in list_models() if model.repo not in (None, source.repo) and model.disk_bytes]
        for model in sorted(removable, key=lambda model: -model.disk_bytes)[:1]:
            hint += f"; `sorano rm {model.name}` frees {format_bytes(model.disk_bytes)}"
        hint += f"; {_what_fits(free)}"
        raise CapacityError(
            f"{source.name} needs {format_bytes(wanted)} more in {cache}, and {format_bytes(free)} is free", hint
        )
    if wanted:
        say(f"{source.name}: fetching {format_bytes(wanted)} of {listing.repo}; {format_bytes(free)} of disk is free")


def _what_fits(free: int) -> str:
    """The largest preset that so many bytes of disk hold."""
    sizes = {preset.name: preset.download_bytes for preset in PRESETS.values() if preset.repo}
    fitting = {name: size for name, size in sizes.items() if size is not None and size <= free}
    if not fitting:
        return f"preset {DEFAULT_PRESET} comes with Sorano and needs nothing more"
    name = max(fitting, key=lambda name: fitting[name])
    return f"`sorano pull {name}` (up to {format_bytes(fitting[name])}) would fit"


def _record_file(folder: Path) -> Path:
    return folder.parent.parent / RECORDS / f"{folder.name}.json"


def _read_record(folder: Path) -> dict[str, Any]:
    """What a pull wrote about a folder; empty where none did, or where it is not whole."""
    try:
        record = json.loads(_record_file(folder).read_text(encoding="utf-8"))
        return record if isinstance(record, dict) and isinstance(record.get("files"), dict) else {}
    except (OSError, ValueError):
        return {}


def _write_record(listing: Listing) -> None:
    """Keep what was checked, and name the commit `main`, as the cache does, for those who ask by that name."""
    known = digests(listing.folder)
    record: dict[str, Any] = {"repo": listing.repo, "commit": listing.commit, "licence": listing.licence, "files": {}}
    for file in listing.files:
        path = listing.folder / file.name
        sha256 = file.digest if len(file.digest) == 64 else known.get(file.name) or digest_of(path, hashlib.sha256())
        status = path.stat()
        record["files"][file.name] = {"sha256": sha256, "bytes": status.st_size, "mtime_ns": status.st_mtime_ns}
    _write_json(_record_file(listing.folder), record)
    reference = listing.home / "refs" / "main"
    reference.parent.mkdir(parents=True, exist_ok=True)
    reference.write_text(listing.commit)


def _as_checked(path: Path, entry: dict[str, Any]) -> bool:
    status = path.stat()
    return (status.st_size, status.st_mtime_ns) == (entry.get("bytes"), entry.get("mtime_ns"))


def _stored(source: ModelSource) -> ModelEntry:
    if source.repo is None:
        preset = source.preset
        assert preset is not None and preset.folder is not None
        size = _disk_bytes(preset.folder)
        return ModelEntry(source.name, None, preset.licence, "embedded", size, 0, preset.folder, None)
    folder, home = find(source.repo), home_of(source.repo)
    record = _read_record(folder) if folder else {}
    ours = (home / RECORDS).is_dir()
    download_bytes = source.preset.download_bytes if source.preset else None
    if record:
        download_bytes = sum(entry["bytes"] for entry in record["files"].values())
    return ModelEntry(
        name=source.name,
        repo=source.repo,
        licence=source.preset.licence if source.preset else record.get("licence", "not known"),
        state="pulled" if record else "cached" if folder else "incomplete" if ours else "not pulled",
        disk_bytes=_disk_bytes(home) if ours or folder else 0,
        download_bytes=download_bytes,
        folder=folder,
        commit=folder.name if folder else None,
    )


def _disk_bytes(folder: Path) -> int:
    """Bytes of the files in a folder, each once, whatever links lead to it."""
    files = {path.resolve() for path in folder.rglob("*") if path.is_file()}
    return sum(path.stat().st_size for path in files)


def _configs(preset: Preset | None, folder: Path | None) -> ModelConfigs | None:
    """The folder's own, or the official ones of a preset that is not here."""
    try:
        return read_configs(folder) if folder else preset.configs if preset else None
    except CheckpointError:
        return None


def _parameters(configs: ModelConfigs) -> dict[str, int]:
    networks = {field.name: getattr(configs, field.name) for field in fields(configs)}
    return {name: network.parameters() for name, network in networks.items() if hasattr(network, "parameters")}


def _memory(preset: Preset, configs: ModelConfigs, *, free_bytes: int | None) -> dict[str, int]:
    """Peak bytes of one video as the preset makes it, on each kind of machine with so much free memory (None: any)."""
    width, height = parse_size(preset.size)
    shape = VideoShape(preset.num_frames, height, width)
    takes_picture = configs.first_picture == "required"
    peaks = {}
    for device, dtype in MACHINES:
        machine = Machine(device, dtype, flops_per_second=1.0, free_bytes=free_bytes)
        estimate = estimate_generate(
            configs, machine, shape, num_steps=1, guided=preset.guidance > 1, has_pictures=takes_picture
        )
        peaks[f"{device} {dtype}"] = estimate.peak_bytes
    return peaks


def _settings(preset: Preset) -> dict[str, Any]:
    """How the preset samples, and its limits: the fields that are neither its name nor where it comes from."""
    other = ("name", "folder", "repo", "licence", "configs", "alternatives", "note")
    values = {field.name: getattr(preset, field.name) for field in fields(preset) if field.name not in other}
    values |= {f"--settings {name}": dict(words) for name, words in preset.alternatives}
    return {name: value for name, value in values.items() if value not in (None, ())}


# What they share.


def _parent(name: str) -> str:
    return name.rpartition("/")[0]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from error
    return value if isinstance(value, dict) else {}


def _write_json(path: Path, value: dict[str, Any]) -> None:
    """Write it whole or not at all."""
    write_atomic(path, json.dumps(value, indent=1) + "\n")
