"""Files that clients give: taken in, looked at by decoding in a child process, kept, and found again by a worker.

In a job's words a file is a reference, so that any machine with the same store finds it: `upload:file_1.png` or
`video:video_1/3` (a finished video and its epoch).
"""

from __future__ import annotations

import hashlib
import re
import shutil
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import sqlalchemy as sa

from sorano.errors import PolicyError, SoranoError
from sorano.files import is_full
from sorano.serve import outbound
from sorano.serve.config import Settings
from sorano.serve.database import audit, owned_row, uploads
from sorano.serve.jobs import Jobs
from sorano.serve.posts import COMPLETED, Row, audit_lines
from sorano.serve.schema import Reference, files_of, map_files
from sorano.serve.store import Store
from sorano.trust import sandbox
from sorano.web.database import Database
from sorano.web.forms import Upload, decode_data_url
from sorano.web.problems import Problem, code_of, not_found, problem_of

INPUT = "input"  # the purpose of uploads that came with a job, and go when no job names them
AT_ONCE = 500  # records that one transaction removes
CHECKS_AT_ONCE = 2  # child processes
SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,5}")
DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)?((?:;[\w=.+-]+)*),(.*)", re.DOTALL)


class Assets:
    """Uploads of one server. Raises `Problem`."""

    def __init__(self, database: Database, store: Store, jobs: Jobs, settings: Settings) -> None:
        self.database, self.store, self.jobs, self.settings = database, store, jobs, settings
        self._turns = threading.BoundedSemaphore(CHECKS_AT_ONCE)

    def keep(
        self,
        file: IO[bytes],
        name: str,
        owner: str,
        purpose: str,
        *,
        param: str = "file",
        expires_at: float | None = None,
    ) -> Row:
        """Keeps an upload that can be decoded, and returns its record."""
        upload_id, path = self.store.new_upload(suffix_of(name))
        try:
            size, digest = self._write(file, path, param)
            found = self._inspect(path, param)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        values = {
            "id": upload_id,
            "owner": owner,
            "name": Path(name).name[:200] or "upload",
            "stored": path.name,
            "bytes": size,
            "sha256": digest,
            "purpose": purpose,
            "found": found,
            "expires_at": expires_at,
        }
        with self.database.write() as connection:
            self._require_room(connection, owner, size, path)
            now = self.database.now(connection)
            connection.execute(sa.insert(uploads).values(**values, created_at=now))
            detail = {"bytes": size, "sha256": digest, "purpose": purpose}
            connection.execute(sa.insert(audit), audit_lines(now, owner, "upload", [upload_id], detail))
            return connection.execute(sa.select(uploads).where(uploads.c.id == upload_id)).mappings().one()

    def _require_room(self, connection: sa.Connection, owner: str, size: int, path: Path) -> None:
        """Raises `Problem`, and removes the file, where the files that a key gave would take more than it may keep."""
        total = sa.select(sa.func.coalesce(sa.func.sum(uploads.c.bytes), 0)).where(uploads.c.owner == owner)
        held = connection.execute(total).scalar_one()
        if held + size > self.settings.most_kept_bytes:
            path.unlink(missing_ok=True)
            most = self.settings.most_kept_bytes / 1e9
            said = f"the uploads of this key take {held / 1e9:.2g} GB of the {most:.3g} that it may keep"
            raise Problem(
                "quota_exceeded",
                said,
                "delete some: DELETE /v1/files/ID, or videos that were made of them",
                param="file",
            )

    def get(self, upload_id: str, owner: str | None) -> Row:
        """The record of an upload."""
        with self.database.read() as connection:
            return owned_row(connection, uploads, upload_id, owner, "file")

    def page(
        self, owner: str | None, *, after: str | None, limit: int, ascending: bool, purpose: str | None = None
    ) -> tuple[list[Row], bool]:
        """A page of an owner's uploads, of one purpose or of all, and whether there are more."""
        at, name = uploads.c.created_at, uploads.c.id
        query = sa.select(uploads)
        if owner is not None:
            query = query.where(uploads.c.owner == owner)
        if purpose is not None:
            query = query.where(uploads.c.purpose == purpose)
        with self.database.read() as connection:
            if after:
                place = self._place(connection, after, owner)
                then = sa.tuple_(at, name) > place if ascending else sa.tuple_(at, name) < place
                query = query.where(then)
            order = (at, name) if ascending else (at.desc(), name.desc())
            found: list[Row] = list(connection.execute(query.order_by(*order).limit(limit + 1)).mappings())
        return found[:limit], len(found) > limit

    def _place(self, connection: sa.Connection, upload_id: str, owner: str | None) -> Any:
        """Where an upload is, or was, among all: a list goes on after one that was deleted since it was read."""
        kept = sa.select(uploads.c.created_at).where(uploads.c.id == upload_id)
        made = sa.select(audit.c.at).where(audit.c.subject == upload_id, audit.c.action == "upload")
        if owner is not None:
            kept, made = kept.where(uploads.c.owner == owner), made.where(audit.c.owner == owner)
        at = connection.execute(kept).scalar() or connection.execute(made).scalar()
        if at is None:
            raise not_found("file", upload_id)
        return sa.tuple_(sa.literal(at), sa.literal(upload_id))

    def delete(self, upload_id: str, owner: str | None, *, by: str) -> None:
        """Removes an upload: the record, then the file. `by` is who the audit names."""
        row = self.get(upload_id, owner)
        with self.database.write() as connection:
            connection.execute(sa.delete(uploads).where(uploads.c.id == upload_id))
            lines = audit_lines(self.database.now(connection), by, "delete", [upload_id], {"purpose": row["purpose"]})
            connection.execute(sa.insert(audit), lines)
        self.store.upload(row["stored"]).unlink(missing_ok=True)

    def refer(self, given: Reference, owner: str | None, *, wants: str, keep_for: str) -> str:
        """The reference of a file that a request names; `wants` is "picture" or "video"."""
        if given.kind == "video":
            row = self.jobs.get(given.value, owner)
            if row["status"] != COMPLETED:
                raise Problem(
                    "not_ready", f"{given.value} is {row['status']}", "wait until it is completed", param=given.param
                )
            if wants != "video":
                raise Problem(
                    "invalid_value",
                    f"{given.param} is a picture: {given.value} is a video",
                    "send a picture, or extend the video",
                    param=given.param,
                )
            return f"video:{row['id']}/{row['epoch']}"
        if given.kind == "file":
            row = self.get(given.value, owner)
        else:
            file, name = self._opened(given)
            row = self.keep(file, name, keep_for, INPUT, param=given.param)
        kind = row["found"]["kind"]
        if kind != wants:
            raise Problem(
                "invalid_file",
                f"{given.param} must be a {wants}: {row['name']} is a {kind}",
                f"send a {wants}",
                param=given.param,
            )
        return f"upload:{row['stored']}"

    def path_of(self, reference: str) -> Path:
        """Where a reference's file is. Raises `Problem` where it is gone."""
        kind, _, place = reference.partition(":")
        try:
            if kind == "upload":
                path = self.store.upload(place)
            elif kind == "video":
                job_id, _, epoch = place.partition("/")
                path = self.store.video(job_id, int(epoch))
            else:
                raise ValueError(reference)
        except ValueError as error:
            raise Problem("input_gone", f"{reference!r} is no file of this store", "upload it and ask again") from error
        if not path.is_file():
            raise Problem("input_gone", f"a file that the job needs, {place}, was deleted", "upload it and ask again")
        return path

    def located(self, words: dict[str, Any]) -> dict[str, Any]:
        """Fields of `Request` with their files' paths in the place of references."""
        return map_files(words, lambda one: str(self.path_of(one)))

    def sweep(self) -> None:
        """Removes uploads that expired or are older than what is kept, those that came with jobs that are gone, and
        files that no record names. What a job needs stays.
        """
        from sorano.serve.database import jobs as jobs_table
        from sorano.serve.store import ORPHAN_SECONDS

        with self.database.read() as connection:
            now, keep = self.database.now(connection), self.settings.keep_seconds
            needed = _references(connection, sa.select(jobs_table.c.words))
            listed = list(connection.execute(sa.select(uploads)).mappings())

        def is_over(row: Row) -> bool:
            if row["expires_at"] is not None and row["expires_at"] < now:
                return True
            most = ORPHAN_SECONDS if row["purpose"] == INPUT else keep
            is_old = most is not None and row["created_at"] < now - most
            return is_old and f"upload:{row['stored']}" not in needed

        over = [row for row in listed if is_over(row)]
        for first in range(0, len(over), AT_ONCE):
            with self.database.write() as connection:  # what a job has been made with meanwhile stays
                since = sa.select(jobs_table.c.words).where(jobs_table.c.created_at >= now)
                needed = _references(connection, since)
                names = [row["id"] for row in over[first : first + AT_ONCE] if f"upload:{row['stored']}" not in needed]
                connection.execute(sa.delete(uploads).where(uploads.c.id.in_(names)))
        # listed first, then read: a file that is listed and has no record was removed, or is on its way (by its age)
        with self.database.read() as connection:
            known = [str(stored) for stored in connection.execute(sa.select(uploads.c.stored)).scalars()]
        self.store.sweep_uploads(known)

    def digest(self, given: Reference) -> str:
        """What tells a file from others, for the digest of a body."""
        if given.kind != "upload":
            return f"{given.kind}:{hashlib.sha256(given.value.encode()).hexdigest()}"
        upload: Upload = given.value
        upload.file.seek(0)
        digest = hashlib.file_digest(upload.file, "sha256").hexdigest()  # type: ignore[arg-type]
        upload.file.seek(0)
        return f"upload:{digest}"

    def _write(self, file: IO[bytes], path: Path, param: str) -> tuple[int, str]:
        try:
            with open(path, "xb") as target:
                path.chmod(0o600)
                shutil.copyfileobj(file, target)
            size = path.stat().st_size
            if size == 0:
                raise Problem("invalid_file", f"{param} is empty", "send the file itself", param=param)
            with open(path, "rb") as written:
                return size, hashlib.file_digest(written, "sha256").hexdigest()
        except OSError as error:
            raise storage_problem(error) from error

    def _inspect(self, path: Path, param: str) -> dict[str, Any]:
        words = {
            "path": str(path),
            "most_seconds": self.settings.most_input_seconds,
            "most_pixels": self.settings.most_input_pixels,
            "picture_classifier": self.settings.picture_classifier,
        }
        with self._turns:
            try:
                found, _ = sandbox.run("sorano.serve.checks:inspect_here", words)
            except SoranoError as error:
                said = error.message.replace(f"{path} ", "").replace(str(path), "the file")
                is_ours = isinstance(error, PolicyError) or type(error) is SoranoError  # the classifier's
                code = code_of(error) if is_ours else "invalid_file"
                raise Problem(code, f"{param} cannot be used: {said}", error.hint or "", param=param) from error
        return dict(found)

    def _opened(self, given: Reference) -> tuple[IO[bytes], str]:
        """The bytes of an upload, a data URL, or of a URL that may be fetched."""
        import io

        if given.kind == "upload":
            given.value.file.seek(0)
            return given.value.file, given.value.name
        if given.kind == "data":
            return io.BytesIO(decoded(given.value, given.param)), "upload"
        parts = None
        with suppress(outbound.Refused):
            parts = outbound.check_url(given.value, self.settings.remote_hosts)
        if parts is None or not outbound.is_allowed(parts.hostname or "", parts.port, self.settings.remote_hosts):
            raise Problem(
                "remote_url_not_allowed",
                f"{given.param} is a URL, and this server fetches none from there",
                "send the file, or a data URL",
                param=given.param,
            )
        try:
            answer = outbound.ask(
                "GET", given.value, allowed=self.settings.remote_hosts, most_bytes=self.settings.most_body_bytes
            )
        except Exception as error:  # whatever another server does is the caller's file that cannot be had
            raise Problem(
                "invalid_file",
                f"{given.param} cannot be fetched: {error}"[:300],
                "send the file itself",
                param=given.param,
            ) from error
        if answer.status != 200:
            said = f"{given.param} cannot be fetched: HTTP {answer.status}"
            raise Problem("invalid_file", said, "send the file itself", param=given.param)
        return io.BytesIO(answer.body), Path(parts.path).name or "upload"


def suffix_of(name: str) -> str:
    """The suffix of a client's file name as the store may use it; "" for one that is no plain, short one."""
    suffix = Path(name).suffix
    return suffix.lower() if SUFFIX.fullmatch(suffix) else ""


def _references(connection: sa.Connection, words: sa.Select[Any]) -> set[Any]:
    """The files that jobs' requests name."""
    return {one for request in connection.execute(words).scalars() for one in files_of(request)}


def decoded(url: str, param: str) -> bytes:
    """The bytes of a data URL. Raises `Problem`."""
    match = DATA_URL.fullmatch(url)
    if match is None:
        raise Problem("invalid_value", f"{param} is no data URL", "it begins with data:image/png;base64,", param=param)
    try:
        return decode_data_url(match[2], match[3])
    except ValueError as error:
        raise Problem(
            "invalid_value", f"{param} is not base64: {error}", "encode the bytes again", param=param
        ) from error


def storage_problem(error: OSError) -> Problem:
    """A file that cannot be written, as an answer."""
    if is_full(error):
        return Problem("storage_full", "the server's disk is full", "try again later", retry_after=60)
    return Problem("internal_error", f"the server cannot write: {error.strerror}", "see its log")


def in_child(target: str, arguments: dict[str, Any], turns: threading.BoundedSemaphore | None = None) -> Any:
    """What a function finds on untrusted files, in a child process. Raises `Problem`."""
    run: Callable[[], Any] = lambda: sandbox.run(target, arguments)[0]  # noqa: E731
    try:
        if turns is None:
            return run()
        with turns:
            return run()
    except SoranoError as error:
        raise problem_of(error) from error
