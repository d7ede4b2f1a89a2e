"""Talking to the hub: what a name stands for, what a repository holds, its files over HTTP, and its refusals in words.

A file is fetched into the cache of huggingface_hub, in its layout:

    models--OWNER--NAME/blobs/DIGEST.incomplete        what has come so far; the next pull goes on there
    models--OWNER--NAME/blobs/DIGEST                   a whole file, once it has the digest that the hub states
    models--OWNER--NAME/snapshots/COMMIT/vae/...       its name in the diffusers folder, a link

Not covered: the Xet protocol. Files come over HTTP, several at once, because an interrupted one can then be resumed.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock
from typing import TYPE_CHECKING, Any

from huggingface_hub import constants

from sorano.errors import CapacityError, CheckpointError, RequestError, SoranoError
from sorano.files import is_full
from sorano.presets import PRESETS, REPO, Preset, nearest_presets

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError

Progress = Callable[[str, int, int], None]
"""Called with "check" or "fetch", the bytes done, and the bytes in all; from several threads, one at a time."""

NEEDED = re.compile(r"\w[\w.-]*\.json|\w[\w.-]*/\w[\w.-]*\.(json|safetensors)|\w[\w.-]*/spiece\.model")
DIGEST = re.compile(r"[0-9a-f]{64}|[0-9a-f]{40}")
PASSING = (408, 500, 502, 503, 504)  # answers after which the same request may succeed
WORKERS = 8  # files at once
RETRIES = 5  # in a row, without one new byte
RETRY_SECONDS = 0.5  # before the first; doubled each time
CHUNK_BYTES = 1 << 20
PROXIES = ("all_proxy", "https_proxy", "http_proxy")  # variables that name a proxy, in either case
CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
LOG_IN = "`hf auth login`, or set HF_TOKEN"


@dataclass(frozen=True)
class ModelSource:
    """What a name stands for: a preset, or a repository of the hub that no preset has."""

    name: str
    repo: str | None  # None: it comes with Sorano
    preset: Preset | None

    @property
    def again(self) -> str:
        """The command that goes on where a pull ended."""
        return f"sorano pull {self.name}"


@dataclass(frozen=True)
class RemoteFile:
    """A file as the hub lists it. Its digest, and name in the cache, is its SHA-256, or git's SHA-1 of a small one."""

    name: str  # by its path in the folder
    size: int
    digest: str

    @property
    def digest_kind(self) -> str:
        """What a person calls the digest."""
        return "SHA-256" if len(self.digest) == 64 else "git SHA-1"

    def hasher(self) -> Any:
        """A hashlib object that gives `digest` after the file's bytes."""
        if len(self.digest) == 64:
            return hashlib.sha256()
        return hashlib.sha1(b"blob %d\0" % self.size, usedforsecurity=False)


@dataclass(frozen=True)
class Listing:
    """A repository at a commit: the files that a diffusers folder needs, and the names of all."""

    repo: str
    commit: str
    licence: str
    files: tuple[RemoteFile, ...]
    names: tuple[str, ...]

    @property
    def home(self) -> Path:
        """The repository's folder in the cache."""
        return home_of(self.repo)

    @property
    def folder(self) -> Path:
        """The diffusers folder."""
        return self.home / "snapshots" / self.commit


class Unreachable(CheckpointError):
    """The hub cannot be asked now; what is on this machine still works."""


def find_source(name: str) -> ModelSource:
    """The preset of this name or repository, or the repository OWNER/NAME. Raises RequestError with the nearest."""
    for preset in PRESETS.values():
        if name == preset.name or name.lower() == (preset.repo or "").lower():
            return ModelSource(preset.name, preset.repo, preset)
    if REPO.fullmatch(name):
        return ModelSource(name, name, None)
    raise RequestError(
        f"there is no preset {name!r}; known: {', '.join(PRESETS)}",
        f"the nearest is {nearest(name)}; a repository of the hub is written OWNER/NAME",
    )


class Fetch:
    """The missing files of a pull on their way, several at once."""

    def __init__(
        self, source: ModelSource, listing: Listing, missing: Iterable[RemoteFile], progress: Progress
    ) -> None:
        self.source, self.listing = source, listing
        self._progress, self._lock, self._stop = progress, Lock(), Event()
        self._total = sum(file.size for file in missing)
        self._done = 0

    def run(self, files: Iterable[RemoteFile]) -> None:
        """Fetch these, the largest first. The first error ends all of them, and what they have is kept."""
        with ThreadPoolExecutor(WORKERS) as pool:
            futures = [pool.submit(self._fetch, file) for file in sorted(files, key=lambda file: -file.size)]
            try:
                for future in as_completed(futures):
                    future.result()
            except BaseException:
                self._stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _fetch(self, file: RemoteFile) -> None:
        """A file into the cache under its digest, and into the folder under its name."""
        from huggingface_hub.utils import WeakFileLock

        home = self.listing.home
        blob, lock = home / "blobs" / file.digest, home.parent / ".locks" / home.name / f"{file.digest}.lock"
        for path in (blob, lock):
            path.parent.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(lock):  # another pull of the same file is waited for
            if not blob.exists():
                partial = partial_of(blob)
                found = self._receive(file, partial)
                if self._stop.is_set():
                    return
                if found != file.digest:
                    partial.unlink()
                    raise CheckpointError(
                        f"{file.name} of {self.listing.repo} came with wrong bytes and was removed:"
                        f" its {file.digest_kind} is {found}, not {file.digest}",
                        f"{self.source.again} fetches it again",
                    )
                os.replace(partial, blob)
            link(blob, self.listing.folder / file.name)

    def _receive(self, file: RemoteFile, partial: Path) -> str:
        """The bytes that `partial` lacks, then the digest of all. Broken connections are taken up again."""
        from huggingface_hub import hf_hub_url
        from huggingface_hub.errors import HfHubHTTPError
        from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status, httpx

        from sorano import __version__

        url = hf_hub_url(self.listing.repo, file.name, revision=self.listing.commit)
        headers = build_hf_headers(library_name="sorano", library_version=__version__)
        headers["Accept-Encoding"] = "identity"  # a range of compressed bytes would be another range
        failures = 0
        with open(partial, "a+b") as out:
            out.seek(0)
            hasher = file.hasher()
            have = _digest_on(out, hasher)
            self._count(have)
            while have < file.size and not self._stop.is_set():
                began = have
                ranged = {**headers, "Range": f"bytes={began}-"} if began else headers
                problem: Exception = CheckpointError(f"the hub sent {began} of the {file.size} bytes of {file.name}")
                try:
                    with get_session().stream(
                        "GET", url, headers=ranged, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT, follow_redirects=True
                    ) as response:
                        hf_raise_for_status(response)
                        if began and response.status_code != 206:  # the range was not heeded
                            out.seek(0)
                            out.truncate()
                            hasher = file.hasher()
                            self._count(-began)
                            began = have = 0
                        for chunk in response.iter_bytes():
                            if self._stop.is_set():
                                break
                            out.write(chunk)
                            hasher.update(chunk)
                            have += len(chunk)
                            self._count(len(chunk))
                except httpx.HTTPError as error:
                    if isinstance(error, HfHubHTTPError) and error.response.status_code == 404:
                        raise CheckpointError(
                            f"the hub lists {file.name} of {self.listing.repo} and does not have it (404)",
                            f"its owner may be changing it: {self.source.again} tries again",
                        ) from error
                    if isinstance(error, HfHubHTTPError) and error.response.status_code not in PASSING:
                        raise
                    problem = error
                failures = 0 if have > began else failures + 1
                if failures > RETRIES:
                    raise problem
                if failures:
                    self._stop.wait(RETRY_SECONDS * 2 ** (failures - 1))
        return str(hasher.hexdigest())

    def _count(self, num_bytes: int) -> None:
        with self._lock:
            self._done += num_bytes
            self._progress("fetch", self._done, self._total)


def open_session() -> None:
    """Opens the connection's client. Raises CheckpointError for what the user's variables ask of it and cannot be had:
    a proxy that needs another package, a file of certificates that is not there."""
    from huggingface_hub.utils import get_session

    proxies = [name for name in os.environ if name.lower() in PROXIES and os.environ[name]]
    try:
        get_session()
    except ImportError as error:
        named = ", ".join(f"{name}={_without_password(os.environ[name])}" for name in proxies) or "a proxy"
        package = error.name or "socksio"
        raise Unreachable(
            f"{named} needs the package {package}, which is not installed", f"pip install {package}"
        ) from error
    except (OSError, ValueError) as error:
        files = [name for name in CERTIFICATES if os.environ.get(name) and not os.path.exists(os.environ[name])]
        if files:
            raise Unreachable(
                f"{files[0]} names {os.environ[files[0]]}, which is not there", f"unset {files[0]}, or mend it"
            ) from error
        raise Unreachable(
            f"no connection can be opened: {error}", f"check {', '.join(proxies) or 'the network'}"
        ) from error


def _without_password(url: str) -> str:
    return re.sub(r"//[^@/]*@", "//", url)


def list_files(source: ModelSource) -> Listing:
    """What the hub states of a repository, in one request. Raises CheckpointError where it is no hub that answers."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError

    from sorano import __version__

    assert source.repo is not None
    api = HfApi(endpoint=constants.ENDPOINT, library_name="sorano", library_version=__version__)
    try:
        info = api.model_info(source.repo, files_metadata=True, timeout=constants.HF_HUB_ETAG_TIMEOUT)
        files = [_remote_file(sibling) for sibling in info.siblings or () if NEEDED.fullmatch(sibling.rfilename)]
        commit = str(info.sha)
        if not re.fullmatch(r"[0-9a-f]{40}", commit):
            raise ValueError(f"the commit is {commit}")
    except HFValidationError:
        raise
    except UnicodeError as error:
        raise CheckpointError(
            "the token is not one of the hub: it holds other characters than ASCII", LOG_IN
        ) from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(
            f"{constants.ENDPOINT} does not answer as the hub does: {error}",
            "check HF_ENDPOINT, and whether a proxy or a login page answers in its place",
        ) from error
    licence = str(getattr(info.card_data, "license", None) or "not stated")
    return Listing(source.repo, commit, licence, tuple(files), tuple(s.rfilename for s in info.siblings or ()))


def _remote_file(sibling: Any) -> RemoteFile:
    """Raises ValueError where the hub states no size or no digest."""
    size, digest = (sibling.lfs.size, sibling.lfs.sha256) if sibling.lfs else (sibling.size, sibling.blob_id)
    if not isinstance(size, int) or not DIGEST.fullmatch(digest or ""):
        raise ValueError(f"it states no size and digest of {sibling.rfilename}")
    return RemoteFile(sibling.rfilename, size, digest)


# The cache.


def home_of(repo: str) -> Path:
    """Where the cache keeps a repository."""
    return Path(constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}"


def partial_of(blob: Path) -> Path:
    """What has come so far, under the name that huggingface_hub gives to such files."""
    return blob.with_name(f"{blob.name}.incomplete")


def link(blob: Path, pointer: Path) -> None:
    """Give a blob its name in the folder; where the system has no symbolic links, it moves there, as the cache does."""
    pointer.parent.mkdir(parents=True, exist_ok=True)
    pointer.unlink(missing_ok=True)
    try:
        if getattr(constants, "HF_HUB_DISABLE_SYMLINKS", False):
            raise OSError("symbolic links are switched off")
        pointer.symlink_to(os.path.relpath(blob, pointer.parent))
    except OSError:
        os.replace(blob, pointer)


def digest_of(path: Path, hasher: Any) -> str:
    """What a hashlib object gives for a file."""
    with open(path, "rb") as file:
        _digest_on(file, hasher)
    return str(hasher.hexdigest())


def _digest_on(file: Any, hasher: Any) -> int:
    """Feed what is left of an open file to a hasher; how many bytes that was."""
    num_bytes = 0
    while chunk := file.read(CHUNK_BYTES):
        hasher.update(chunk)
        num_bytes += len(chunk)
    return num_bytes


# Words.


def nearest(name: str) -> str:
    """The preset whose name, or whose repository's, is most like `name`."""
    return nearest_presets(name)[0]


@contextmanager
def report_fetch_errors(source: ModelSource, next_step: str) -> Iterator[None]:
    """What huggingface_hub, the network and the disk raise, as errors of Sorano. `next_step` is for the network's."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled
    from huggingface_hub.utils import httpx

    try:
        yield
    except HfHubHTTPError as error:
        raise _describe_answer(source, error) from error
    except OfflineModeIsEnabled as error:
        raise Unreachable(
            "HF_HUB_OFFLINE is set, so nothing is fetched", f"unset it, then {source.again}; or --preset PATH"
        ) from error
    except httpx.HTTPError as error:
        reason = str(error) or type(error).__name__
        raise Unreachable(f"the connection to {constants.ENDPOINT} failed: {reason}", next_step) from error
    except HFValidationError as error:
        raise RequestError(f"{source.repo} is not a name of the hub: {error}") from error
    except OSError as error:
        if is_full(error):
            raise CapacityError(
                f"the disk of {constants.HF_HUB_CACHE} became full",
                f"free some, then {source.again} goes on where it was; or set HF_HOME to a larger disk",
            ) from error
        raise CheckpointError(
            f"{error.filename or constants.HF_HUB_CACHE}: {error.strerror or error}",
            "set HF_HOME to a folder that you may write to",
        ) from error


def _describe_answer(source: ModelSource, error: HfHubHTTPError) -> SoranoError:
    """An answer of the hub that is a refusal, and what to do about it."""
    response, repo = error.response, source.repo
    status, page = response.status_code, f"{constants.ENDPOINT}/{repo}"
    if response.headers.get("X-Error-Code") == "GatedRepo":
        return CheckpointError(
            f"{repo} is gated: its terms have to be accepted first ({status})",
            f"accept them at {page}, then log in: {LOG_IN}",
        )
    if status == 401:
        token_sent = "authorization" in response.request.headers
        seen = "does not accept your token for" if token_sent else "does not show"
        return CheckpointError(
            f"the hub {seen} {repo} (401): it is private, gated, or not there",
            f"log in: {LOG_IN}; the nearest preset is {nearest(source.name)}",
        )
    if status == 403:
        return CheckpointError(
            f"the hub does not let you read {repo} (403): {error.server_message or 'forbidden'}",
            f"see {page}, and log in with a token that may read it: {LOG_IN}",
        )
    if status == 404 and source.preset is None:
        near = nearest(source.name)
        return RequestError(f"the hub has no {repo} (404)", f"the nearest preset is {near}: sorano pull {near}")
    if status == 404:
        return CheckpointError(
            f"the hub has no {repo} (404)",
            "a newer Sorano may know where it went; a copy of your own is used with --preset PATH",
        )
    if status == 429:
        return Unreachable(
            "the hub asks to wait (429): too many requests",
            f"{_wait(response.headers)}, then {source.again} goes on where it was; the limit is higher after {LOG_IN}",
        )
    if status >= 500:
        return Unreachable(f"the hub is not well: it answers {status}", f"later, {source.again} goes on where it was")
    return CheckpointError(f"the hub answers {status} for {response.url.path}: {error.server_message or 'no reason'}")


def _wait(headers: Any) -> str:
    """How long a 429 asks to wait: `Retry-After` in seconds or as a date, or the hub's own `RateLimit`."""
    after, limit = headers.get("Retry-After", ""), re.search(r"\bt=(\d+)", headers.get("RateLimit", ""))
    if after.isdigit() or (limit and not after):
        return f"wait {after or (limit and limit[1])} s"
    return f"wait until {after}" if after else "wait some minutes"
