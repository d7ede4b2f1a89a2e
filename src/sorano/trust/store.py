"""Manifests by the mark's id: how a copy that lost its manifest finds it again.

A folder with one folder for each id: `00a1b2c3d4/<sha256>.c2pa`. Sorano adds what it signs to the user's own;
`sorano verify --store DIR` looks into others. A manifest counts by its signature, never by lying here.

Not covered: stores on other machines (copy or mount the folder), who may read it (fingerprints and prompts are in it).
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from sorano.errors import TrustError
from sorano.trust.credentials import MAX_STORE_BYTES
from sorano.trust.keys import user_folder

MOST_FOUND = 16  # manifests of one id that are looked at: ids have 40 bits, and anyone can reuse one


def store_folder() -> Path:
    """$SORANO_STORE, or manifests in the user's data folder."""
    if os.environ.get("SORANO_STORE"):
        return Path(os.environ["SORANO_STORE"])
    return user_folder("SORANO_STORE", "XDG_DATA_HOME", ".local/share") / "manifests"


def put(mark_id: int, manifest: bytes, folder: Path | None = None) -> Path:
    """Keeps a manifest under its mark's id, readable by the owner only. Raises TrustError where it cannot."""
    folder = (folder or store_folder()) / name_of(mark_id)
    file = folder / f"{hashlib.sha256(manifest).hexdigest()[:32]}.c2pa"
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as stream:
            stream.write(manifest)
        os.replace(temporary, file)
    except OSError as error:
        raise TrustError(
            f"the manifest cannot be kept in {folder}: {error.strerror}", "name another folder: SORANO_STORE=/path"
        ) from error
    return file


def find(mark_id: int, folders: Sequence[Path] = ()) -> list[bytes]:
    """The manifests of an id, in one's own store and in these folders."""
    found: list[bytes] = []
    for folder in (*folders, store_folder()):
        place = folder / name_of(mark_id)
        if not place.is_dir():
            continue
        for file in sorted(place.glob("*.c2pa"))[:MOST_FOUND]:
            try:
                if file.stat().st_size <= MAX_STORE_BYTES:
                    found.append(file.read_bytes())
            except OSError as error:
                raise TrustError(f"{file} cannot be read: {error.strerror}") from error
    return found[:MOST_FOUND]


def name_of(mark_id: int) -> str:
    """An id as it is written everywhere: ten hexadecimal digits."""
    return f"{mark_id:010x}"
