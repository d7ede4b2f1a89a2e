"""The files that videos were made of, kept once each by their digest, so that a video can be made again or changed.

In SORANO_LIBRARY, or sorano/library in the user's data folder (XDG_DATA_HOME, else ~/.local/share); readable by their
owner only. A private request keeps none.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from sorano.errors import RequestError
from sorano.files import atomic, sha256, user_folder

MOST_BYTES = 2_000_000_000  # larger files are named by their digest and not copied


def folder() -> Path:
    """Where the files are."""
    own = os.environ.get("SORANO_LIBRARY")
    return Path(own) if own else user_folder("data") / "library"


def digests(files: Mapping[str, Path]) -> dict[str, str]:
    """The SHA-256 of each file, by what it is called in the record."""
    return {name: sha256(file) for name, file in files.items()}


def keep(files: Mapping[str, Path]) -> dict[str, str]:
    """Keeps files; returns their `digests`."""
    known = digests(files)
    for name, file in files.items():
        digest = known[name]
        target = folder() / f"{digest}{file.suffix.lower()}"
        if target.exists() or file.stat().st_size > MOST_BYTES:
            continue
        folder().mkdir(parents=True, exist_ok=True, mode=0o700)
        with suppress(OSError), atomic(target) as temporary:  # a full disk does not cost the video
            shutil.copyfile(file, temporary)
            temporary.chmod(0o600)
    return known


def find(name: str, digest: str, beside: Path) -> Path:
    """A kept file, or the one of the same name beside a video, if it is the same.

    Raises RequestError where it is nowhere.
    """
    kept = folder() / f"{digest}{Path(name).suffix.lower()}"
    if kept.is_file():
        return kept
    near = beside / name
    if near.is_file() and sha256(near) == digest:
        return near
    raise RequestError(
        f"{name}, of which the video was made, is not on this machine", f"put it beside the video, in {beside}"
    )
