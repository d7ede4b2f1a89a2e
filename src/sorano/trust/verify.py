"""Verify where a video came from.

    report = verify("clip.mp4")       # a Report with a verdict and the evidence for it
    report.require()                  # raises unless VERIFIED

Five verdicts (`sorano.trust.report`), never "real" and never "fake". The file is read in a child process with limits
(`sorano.trust.sandbox`), which looks at it (`sorano.trust.observe`, `sorano.trust.scan`) and judges what was seen
(`sorano.trust.judge`).

Covered: the signature, that it binds these bytes, the public mark and private ones whose keys are known here, copies
(`sorano.trust.copies`), labels. Not covered: whether a trusted signer tells the truth, scenes that were staged or
filmed from a screen, marks that were destroyed, changes that leave no trace here; in a copy, what is smaller or shorter
than docs/trust.md says. The public mark can be forged by anyone: it is a hint.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sorano.trust import sandbox
from sorano.trust.report import Report, Verdict

if TYPE_CHECKING:
    from sorano.trust.watermark.tamper import TamperMap

SUFFIXES = (
    ".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".png", ".jpg", ".jpeg", ".webp", ".gif", ".tif", ".tiff",
    ".avif", ".heic", ".wav", ".mp3", ".m4a", ".flac",
)  # fmt: skip  # what is looked for in a folder


def verify(
    path: str | Path, *, trust: str | Path | None = None, stores: Sequence[str | Path] = (), bundle: Path | None = None
) -> Report:
    """Where a file came from. `trust` is a PEM file of more roots, `stores` more folders of manifests, `bundle` a
    disclosed private carrier.

    The file is looked at in a child process with limits. Raises VideoError for a file that cannot be read at all or
    that passes the limits, TrustError for trust that cannot be read.
    """
    return examine(Path(path), trust=trust, stores=stores, bundle=bundle)[0]


def examine(
    path: Path,
    *,
    trust: str | Path | None = None,
    stores: Sequence[str | Path] = (),
    bundle: Path | None = None,
    with_map: bool = False,
    triage: bool = False,
) -> tuple[Report, TamperMap | None]:
    """The report on a file and, with `with_map`, its tamper map where one was made. The file is read in a child."""
    sandbox.require_regular(path)
    words = {
        "path": str(path),
        "trust": None if trust is None else str(trust),
        "stores": [str(folder) for folder in stores],
        "bundle": None if bundle is None else str(bundle),
        "with_map": with_map,
        "triage": triage,
    }
    found, arrays = sandbox.run("sorano.trust.observe:examine_here", words)
    report = Report.from_dict(found["report"])
    if found["times"] is None:
        return report, None
    from sorano.trust.watermark.tamper import TamperMap

    starts, ends = (tuple(times) for times in found["times"])
    return report, TamperMap(arrays["map_THW"], starts, ends, report.regions)


def files_in(place: Path) -> Iterator[Path]:
    """The media files of a folder and its folders, sorted."""
    yield from sorted(file for file in place.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())


def files_to_ask(places: Iterable[Path]) -> Iterator[Path]:
    """The files that are named, and the media files in folders that are."""
    for place in places:
        if place.is_dir():
            yield from files_in(place)
        else:
            yield place


__all__ = ["Report", "Verdict", "examine", "verify"]
