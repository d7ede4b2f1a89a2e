"""A finished video, and the record of its run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sorano.errors import VideoError
from sorano.request import Request, parse_lora, slug
from sorano.shapes import format_size
from sorano.trust.seal import write_signed, write_signed_sheet
from sorano.video import IMAGE_SUFFIXES, check_target, read_video

if TYPE_CHECKING:
    from sorano.pipeline import Model
    from sorano.plan import RunEstimate
    from sorano.resolve import Job
    from sorano.trust.report import Report
    from sorano.video import Frames


class Video:
    """A finished video: its frames, the request that made it with nothing left open, and the record of the run.

    `frames_THWC` are as the model made them; what `save` writes is marked, labelled and signed, and `report` is what
    reading it back found. A film's frames are in its file only, and are read from there when they are asked for.
    """

    def __init__(
        self,
        frames_THWC: Frames | None,
        fps: float,
        request: Request,
        record: dict[str, Any],
        *,
        path: Path | None = None,
        mark_id: int | None = None,
    ) -> None:
        self._frames_THWC = frames_THWC
        self.fps, self.request, self.record, self.path = fps, request, record, path
        self.mark_id = mark_id  # follows from the latent; without one, from the frames
        self.sheet: Path | None = None
        self.report: Report | None = None
        self.variations: tuple[Video, ...] = (self,)  # with other seeds, where they were asked for

    @property
    def frames_THWC(self) -> Frames:
        """All frames, uint8 RGB. Raises VideoError for a film whose file is gone or too long to hold."""
        if self._frames_THWC is None:
            if self.path is None:
                raise VideoError("this film was not written")
            return read_video(self.path).frames_THWC
        return self._frames_THWC

    def save(self, path: str | Path | None = None, *, overwrite: bool | None = None) -> Path:
        """Writes the MP4, marked, labelled and signed, reads it back, and returns its path; without a path, one named
        after the prompt.

        Raises RequestError where the file exists and `overwrite` is not set, VideoError where it cannot be written,
        TrustError where it cannot be signed.
        """
        target = Path(path) if path is not None else default_path(self.request)
        check_target(target, overwrite=self._overwrite(overwrite))
        chunks = [self.frames_THWC]
        self.report = write_signed(
            self.request, chunks, target, fps=self.fps, num_frames=len(chunks[0]), mark_id=self._mark_id(),
            record=self.record, overwrite=self._overwrite(overwrite),
        )  # fmt: skip
        self.path = target
        return target

    def save_sheet(self, path: str | Path, *, overwrite: bool | None = None) -> Path:
        """Writes a picture, marked, labelled and signed, and returns its path: evenly spaced frames, or the one."""
        check_target(Path(path), overwrite=self._overwrite(overwrite), suffixes=IMAGE_SUFFIXES)
        write_signed_sheet(
            self.request, self.frames_THWC, Path(path), fps=self.fps, record=self.record,
            overwrite=self._overwrite(overwrite),
        )  # fmt: skip
        self.sheet = Path(path)
        return self.sheet

    def _mark_id(self) -> int:
        from sorano.trust.release import id_of

        return id_of(self.frames_THWC, self.fps) if self.mark_id is None else self.mark_id

    def _overwrite(self, asked: bool | None) -> bool:
        return self.request.overwrite if asked is None else asked


def default_path(request: Request, folder: Path | None = None, suffix: str = ".mp4") -> Path:
    """A name from the prompt and the seed that is not taken: ball.mp4, ball-2.mp4, ball-3.mp4 ..."""
    folder = Path.cwd() if folder is None else folder
    stem = f"{'video' if request.private else slug(request.prompt)}-{request.seed}"
    path, number = folder / f"{stem}{suffix}", 2
    while path.exists():
        path, number = folder / f"{stem}-{number}{suffix}", number + 1
    return path


def run_record(
    job: Job, model: Model, estimate: RunEstimate, seconds: dict[str, float], peak_bytes: int, num_frames: int
) -> dict[str, Any]:
    """The record that is stored in the file: the request, the preset's digests, the plan and the measurement."""
    import torch

    from sorano import __version__, asset_cache
    from sorano.files import sha256

    loras = [parse_lora(text) for text in job.request.lora]
    return {
        "sorano": __version__,
        "request": job.request.to_dict(),
        "made": {"size": format_size(*job.output_size), "num_frames": num_frames, "fps": job.fps},
        **(
            {"files": asset_cache.keep(job.request.named_files)}
            if job.request.files and not job.request.private
            else {}
        ),
        **({"loras": [{"scale": scale, "sha256": sha256(file)} for file, scale in loras]} if loras else {}),
        "preset": {"name": model.preset.name, "sha256": model.bundle.digests},
        "machine": {
            "device": model.machine.device,
            "dtype": model.machine.dtype,
            "why": model.machine.reason,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        },
        "planned": {"seconds": round(estimate.seconds, 3), "peak_bytes": estimate.peak_bytes},
        "measured": {
            "seconds": round(sum(seconds.values()) - seconds["probe"], 3),  # what was planned: all but the probe
            "peak_bytes": peak_bytes,
            "stages": {stage: round(value, 3) for stage, value in seconds.items()},
        },
    }
