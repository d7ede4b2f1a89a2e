"""The files of jobs and uploads, below one folder that server and workers share.

    uploads/<id>.<suffix>                what clients gave, each looked at in a child process before it is kept
    work/<job>/<epoch>/                  what a run writes and keeps of itself; the next epoch takes it over by renaming
    videos/<job>/<epoch>/video.mp4       finished: renamed to here, then committed; also thumbnail.webp, spritesheet.jpg

The epoch in each path is that of the lease under which a file was written: what another epoch left is swept away.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VIDEO, THUMBNAIL, SPRITESHEET, PREVIEW = "video.mp4", "thumbnail.webp", "spritesheet.jpg", "preview.webp"
VARIANTS = {
    "video": (VIDEO, "video/mp4"),
    "thumbnail": (THUMBNAIL, "image/webp"),
    "spritesheet": (SPRITESHEET, "image/jpeg"),
}
ORPHAN_SECONDS = 600.0  # after which an upload that no record names is swept away
NAME = re.compile(r"[A-Za-z0-9_]{1,80}")  # of jobs and uploads: never a path


@dataclass(frozen=True)
class Known:
    """What the database says of a job, as far as its files are concerned."""

    status: str
    epoch: int
    is_busy: bool = False  # its thumbnail and sprite sheet are being made, or about to be


class Store:
    """Paths and moves below `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.uploads, self.work, self.videos = (root / name for name in ("uploads", "work", "videos"))

    def prepare(self) -> None:
        """Makes the folders, for their owner only."""
        for folder in (self.root, self.uploads, self.work, self.videos):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def video(self, job_id: str, epoch: int, name: str = VIDEO) -> Path:
        """Where a finished job's file is."""
        return self.videos / _plain(job_id) / str(epoch) / name

    def work_folder(self, job_id: str, epoch: int) -> Path:
        """Where a run of this epoch works."""
        return self.work / _plain(job_id) / str(epoch)

    def upload(self, stored: str) -> Path:
        """Where an upload is. Raises ValueError for a name that is none of ours."""
        stem, _, suffix = stored.partition(".")
        return self.uploads / (_plain(stem) + (f".{_plain(suffix)}" if suffix else ""))

    def without_root(self, text: str) -> str:
        """A message with the store's files named by their place in it: where that is on the machine is not told."""
        return text.replace(f"{self.root}{os.sep}", "")

    def take_over(self, job_id: str, epoch: int) -> Path:
        """The work folder of an epoch, with what the newest epoch before it kept.

        Renaming it takes it from a worker that still believes in its lease.
        """
        folder = self.work_folder(job_id, epoch)
        earlier = [int(one.name) for one in _folders(folder.parent) if one.name.isdecimal() and int(one.name) < epoch]
        if earlier and not folder.exists():
            with suppress(OSError):
                os.rename(folder.parent / str(max(earlier)), folder)
        _make_folder(folder)
        return folder

    def publish(self, written: Path, job_id: str, epoch: int, name: str = VIDEO) -> Path:
        """Moves a finished file to its place, on the disk when this returns. Raises OSError."""
        target = self.video(job_id, epoch, name)
        with open(written, "rb") as file:
            os.fsync(file.fileno())
        _make_folder(target.parent)
        os.replace(written, target)
        for folder in (target.parent, target.parent.parent):
            _sync_folder(folder)
        return target

    def remove_job(self, job_id: str) -> None:
        """Removes all files of a job."""
        for top in (self.videos, self.work):
            shutil.rmtree(top / _plain(job_id), ignore_errors=True)

    def remove_epoch(self, job_id: str, epoch: int) -> None:
        """Removes what one epoch of a job wrote, published or not."""
        for folder in (self.video(job_id, epoch).parent, self.work_folder(job_id, epoch)):
            shutil.rmtree(folder, ignore_errors=True)
            with suppress(OSError):
                folder.parent.rmdir()  # where nothing else is in it

    def job_ids(self) -> set[str]:
        """The jobs that have files."""
        return {one.name for top in (self.videos, self.work) for one in _folders(top)}

    def sweep_jobs(self, seen: Iterable[str], known: Mapping[str, Known]) -> list[Path]:
        """Removes what no job needs: of jobs that are gone, and of epochs that are over. Returns what was removed.

        `seen` was listed before `known` was read, so that a job without a row is one that was deleted.
        """
        removed: list[Path] = []
        for name in seen:
            row = known.get(name)
            for top in (self.videos, self.work):
                for folder in _folders(top / name):
                    if row is None or self._is_over(top == self.videos, folder, row):
                        shutil.rmtree(folder, ignore_errors=True)
                        removed.append(folder)
                with suppress(OSError):
                    (top / name).rmdir()
        return removed

    def _is_over(self, is_published: bool, folder: Path, row: Known) -> bool:
        """Whether the files of an epoch are of no more use. (One above the row's was claimed after it was read.)"""
        if not folder.name.isdecimal():
            return True
        epoch = int(folder.name)
        if row.status == "completed":
            return epoch != row.epoch or not (is_published or row.is_busy)
        if row.status == "failed":
            return True
        if is_published:
            return epoch < row.epoch or (epoch == row.epoch and row.status == "queued")
        # of a running job, only once its worker has taken over what this one kept
        return epoch < row.epoch and (folder.parent / str(row.epoch)).exists()

    def sweep_uploads(self, known: Iterable[str], least_age: float = ORPHAN_SECONDS) -> list[Path]:
        """Removes uploads that no record names, once they are old enough not to be on their way."""
        kept, removed = set(known), []
        for file in self.uploads.iterdir() if self.uploads.is_dir() else ():
            with suppress(OSError):
                if file.name not in kept and time.time() - file.stat().st_mtime >= least_age:
                    file.unlink()
                    removed.append(file)
        return removed

    def new_upload(self, suffix: str) -> tuple[str, Path]:
        """An id and a path for an upload that is about to be written."""
        name = f"file_{secrets.token_hex(16)}"
        return name, self.uploads / f"{name}{suffix}"


def _folders(top: Path) -> list[Path]:
    try:
        return [one for one in top.iterdir() if one.is_dir()]
    except OSError:
        return []


def _make_folder(folder: Path) -> None:
    """Makes a folder and what it is in, though somebody may be removing the latter because it is empty."""
    for _ in range(20):
        with suppress(FileNotFoundError):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def _plain(name: str) -> str:
    if not NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of the store's")
    return name


def _sync_folder(folder: Path) -> None:
    with suppress(OSError):  # a system that does not sync folders
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def described(path: Path) -> dict[str, Any]:
    """A file's size and digest, as its record has them."""
    from sorano.files import sha256

    return {"bytes": path.stat().st_size, "sha256": sha256(path)}
