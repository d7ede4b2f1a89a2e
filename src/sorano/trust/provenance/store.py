"""Manifests by the mark's id: how a copy that lost its manifest finds it again.

A folder with one folder for each id: `00a1b2c3d4/<sha256>.c2pa`. Sorano adds what it signs to the user's own;
`sorano verify --store DIR` looks into others. A manifest counts by its signature, never by lying here, and none hides
another: each folder is looked through up to MOST_FILES and MOST_BYTES of its own, the small files first, and manifests
that name a trusted root come before all others.

Not covered: stores on other machines (copy or mount the folder), who may read it (fingerprints and prompts are in it),
folders that whoever writes to them fills beyond those bounds (it is said).
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sorano.errors import TrustError
from sorano.files import write_atomic
from sorano.trust.provenance.embedding import MAX_STORE_BYTES
from sorano.trust.provenance.keys import user_folder

if TYPE_CHECKING:
    from sorano.trust.provenance.roots import Trust

# Ids have 40 bits, and anyone can write under one: junk costs time, within these bounds, and hides nothing.
MOST_FILES = 4096  # manifests of one id that are opened in one folder
MOST_BYTES = 128_000_000  # of them
MOST_READ = 512  # of those that name a trusted root, which C2PA's reader judges (4 ms each)
MOST_OTHERS = 16  # of all others, for what they say


@dataclass(frozen=True)
class FoundManifests:
    """The manifests of an id, those that may be trusted first, and what was not looked at."""

    manifests: tuple[bytes, ...]
    notes: tuple[str, ...] = ()


def store_folder() -> Path:
    """$SORANO_STORE, or manifests in the user's data folder."""
    if os.environ.get("SORANO_STORE"):
        return Path(os.environ["SORANO_STORE"])
    return user_folder("data", "SORANO_STORE") / "manifests"


def put(mark_id: int, manifest: bytes, folder: Path | None = None) -> Path:
    """Keeps a manifest under its mark's id, readable by the owner only. Raises TrustError where it cannot."""
    folder = (folder or store_folder()) / name_of(mark_id)
    file = folder / f"{hashlib.sha256(manifest).hexdigest()[:32]}.c2pa"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomic(file, manifest, private=True)
    except OSError as error:
        raise TrustError(
            f"the manifest cannot be kept in {folder}: {error.strerror}", "name another folder: SORANO_STORE=/path"
        ) from error
    return file


def find(mark_id: int, folders: Sequence[Path] = (), trust: Trust | None = None) -> list[bytes]:
    """The manifests of an id, in one's own store and in these folders."""
    return list(search(mark_id, folders, trust).manifests)


def search(mark_id: int, folders: Sequence[Path] = (), trust: Trust | None = None) -> FoundManifests:
    """The manifests of an id, in one's own store and in these folders, each once; those that may be trusted first.

    A trusted one names this id, and in a certificate the subject of a trusted root: what has not both bytes comes last.
    That is for the order alone: `credentials` judges.
    """
    token = base64.b64encode(mark_id.to_bytes(8, "big"))
    names = [] if trust is None else trust.subjects()
    likely: dict[str, bytes] = {}
    others: dict[str, bytes] = {}
    notes: list[str] = []
    for folder in dict.fromkeys((store_folder(), *folders)):
        count = 0
        for manifest in _read(folder / name_of(mark_id), notes):
            key = hashlib.sha256(manifest).hexdigest()
            if token in manifest and any(name in manifest for name in names):
                count += 1
                if count <= MOST_READ:
                    likely[key] = manifest
            elif len(others) < MOST_OTHERS:
                others[key] = manifest
        if count > MOST_READ:
            notes.append(f"{folder} holds {count:,} manifests of this id; {MOST_READ:,} were looked at")
    return FoundManifests((*likely.values(), *others.values()), tuple(notes))


def _read(place: Path, notes: list[str]) -> Iterator[bytes]:
    """The manifests in a folder, the small ones first. What cannot be read (a dangling link) is passed over."""
    sizes = []
    try:
        for file in place.iterdir():
            with suppress(OSError):
                if file.suffix == ".c2pa" and (size := file.stat().st_size) <= MAX_STORE_BYTES:
                    sizes.append((size, file.name, file))
    except OSError:
        return  # no manifest of this id, or no folder
    sizes.sort()
    left = MOST_BYTES
    for index, (size, _, file) in enumerate(sizes):
        left -= size
        if index >= MOST_FILES or left < 0:
            notes.append(f"{place} holds {len(sizes):,} manifests of this id; {index:,} were looked at")
            return
        with suppress(OSError):
            yield file.read_bytes()


def name_of(mark_id: int) -> str:
    """An id as it is written everywhere: ten hexadecimal digits."""
    return f"{mark_id:010x}"
