"""The engine: a request becomes a file. What a server, a notebook and the command share.

    request -> resolve -> plan -> load -> text -> conditions -> denoise -> decode -> compose
            -> mark -> encode -> label -> sign -> confirm

`Engine` holds one loaded model and makes one video at a time. A file appears only when it was read back: its frames,
its record, its signature. Importing this module is cheap: torch comes in with the first request.
"""

from __future__ import annotations

import os
import shutil
import threading
from contextlib import nullcontext
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from inspect import Parameter, signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sorano.errors import RequestError
from sorano.extras import install, is_installed
from sorano.listener import Cancel, CancellingListener, Listener
from sorano.measure import StageTimer, peak_memory, report_out_of_memory
from sorano.pipeline import Model, choose_machine, load_bundle, located, plan, within
from sorano.plan import Machine, ModelConfigs, Placement, RunEstimate
from sorano.presets import DEFAULT_PRESET, Preset, find_preset
from sorano.prompt_editing import check_words
from sorano.request import Request, drawn_seed
from sorano.resolve import Job, resolve
from sorano.result import Video, default_path, run_record
from sorano.trust.seal import FEW_COLOURS, NO_SIGNATURE
from sorano.video import IMAGE_SUFFIXES, STREAM, check_target
from sorano.workfolder import OLD_SUFFIX, parts_of, read_old_latent, read_state

if TYPE_CHECKING:
    from sorano.models.checkpoint import Bundle
    from sorano.stream import Run

MOST_LATENTS = 2**31  # at once: the whole clip
PREVIEW_SECONDS = 20.0  # of work from which on it is said that a film can be watched while it grows


@dataclass(frozen=True)
class Planned:
    """A job, where it will run, and what it should take."""

    job: Job
    configs: ModelConfigs
    machine: Machine
    estimate: RunEstimate
    clock: StageTimer


class Engine:
    """One loaded model and the runs that use it, one after the other; safe to share between threads.

    `run` makes a planned job: with progress to a `Listener`, stopped by a `Cancel` within one step, resumed from its
    work folder. A LoRA is merged for one run and taken out after it.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._key: tuple[Any, ...] | None = None
        self._bundle: Bundle | None = None

    def load(
        self,
        preset: Preset | str = DEFAULT_PRESET,
        machine: Machine | str = "auto",
        placement: Placement | None = None,
    ) -> Model:
        """The networks of a preset on a device, their files checked against the pinned digests; kept until another.

        A `placement` where networks take turns loads none yet: each comes for its stage.

        Raises CheckpointError naming the file that is missing, corrupt, or not the pinned one.
        """
        preset = located(find_preset(preset) if isinstance(preset, str) else preset)
        machine = choose_machine(machine) if isinstance(machine, str) else machine
        placement = placement or Placement(chunk=MOST_LATENTS)
        key = (preset, machine.device, machine.dtype, placement.in_turn)
        with self._lock:
            if self._bundle is None or self._key != key:
                self.unload()  # two models at once may not fit
                self._bundle = load_bundle(preset, machine.device, machine.dtype, filled=not placement.in_turn)
                self._key = key
            return Model(preset, machine, self._bundle, placement)

    def unload(self) -> None:
        """Lets the loaded model go."""
        with self._lock:
            self._key = self._bundle = None

    def generate(
        self,
        request: Request | str = "",
        *,
        listener: Listener | None = None,
        cancel: Cancel | None = None,
        **options: Any,
    ) -> Video:
        """Makes a video of a sentence, or of a whole `Request`; `options` are the fields of `Request`.

        The file is written where `output` or `sheet` says so; `Video.save` writes it later. A film (more than the model
        makes at once, or with a video's own frames in it) is always written: without `output`, named after its prompt.
        With `variations`, the first one is returned, and all are in its `variations`. Raises the errors of
        `sorano.errors`; whatever can be known before the work raises before it.
        """
        _check_options(options)
        request = Request(prompt=request, **options) if isinstance(request, str) else replace(request, **options)
        request = placed(request)
        listener = listener or Listener()
        if request.variations > 1:
            return self._variations(request, listener, cancel)
        check_outputs(request)
        return self.run(prepare(request, listener), listener=listener, cancel=cancel)

    def _variations(self, request: Request, listener: Listener, cancel: Cancel | None) -> Video:
        """The same request with seeds one after the other, each a file of its own."""
        seed = drawn_seed() if request.seed is None else request.seed
        made = []
        for number in range(request.variations):
            output, sheet = (
                None if given is None else Path(given).with_stem(f"{Path(given).stem}-{number + 1}")
                for given in (request.output, request.sheet)
            )
            one = replace(request, variations=1, seed=seed + number, output=output, sheet=sheet)
            made.append(self.generate(one, listener=listener, cancel=cancel))
        for video in made:
            video.variations = tuple(made)
        return made[0]

    def run(
        self,
        planned: Planned,
        *,
        listener: Listener | None = None,
        cancel: Cancel | None = None,
        work_folder: Path | None = None,
    ) -> Video:
        """Makes a planned job (`prepare`) and writes it where it says.

        What is finished is kept in NAME.mp4.parts, inside `work_folder` (beside the output unless told), until the file
        is written. Raises Cancelled after the denoising step or decoded chunk in which `cancel` was set.
        """
        listener = listener or Listener()
        job = planned.job
        if job.is_film and job.request.output is None:
            job = replace(job, request=replace(job.request, output=default_path(job.request)))
            planned = replace(planned, job=job)
        folder = None
        if job.request.output is not None:
            folder = parts_of(Path(job.request.output), work_folder)
            if folder.exists():
                if not job.request.overwrite:
                    raise RequestError(
                        f"a run of {job.request.output} was stopped before its end",
                        f"go on with: sorano resume {job.request.output}    or remove {folder}",
                    )
                shutil.rmtree(folder)
        return self._run(planned, CancellingListener(listener, cancel) if cancel else listener, folder, None)

    def resume(
        self,
        file: str | Path,
        *,
        device: str | None = None,
        memory: str | None = None,
        listener: Listener | None = None,
        cancel: Cancel | None = None,
        work_folder: Path | None = None,
    ) -> Video:
        """Finishes a run that stopped: `file` is the output that it was to write, `work_folder` the one that `run` got.

        On the device and within the memory that the run had, unless told: where memory ran out, give less. Raises
        CheckpointError where nothing whole was kept.
        """
        file, listener = Path(file), listener or Listener()
        folder = parts_of(file, work_folder)
        kept = read_state(folder) if folder.is_dir() else read_old_latent(file)
        words: dict[str, Any] = {**kept[0]["request"], "overwrite": kept[0]["overwrite"]}
        words |= {"output": file} if folder.is_dir() else {}
        words |= {name: value for name, value in (("device", device), ("memory", memory)) if value is not None}
        request = Request(**words)
        check_outputs(request)
        planned = prepare(request, listener)
        listener = CancellingListener(listener, cancel) if cancel else listener
        video = self._run(planned, listener, folder if folder.is_dir() else None, kept)
        if file.name.endswith(OLD_SUFFIX):
            file.unlink()
        return video

    def _run(
        self,
        planned: Planned,
        listener: Listener,
        folder: Path | None,
        kept: tuple[dict[str, Any], dict[str, Any]] | None,
    ) -> Video:
        from sorano.stream import Run

        job, estimate, clock = planned.job, planned.estimate, planned.clock
        if job.request.output is not None:
            check_target(Path(job.request.output), overwrite=job.request.overwrite)
        only_decodes = kept is not None and not job.is_film and "pending" in kept[1]
        placement = replace(estimate.placement, in_turn=True) if only_decodes else estimate.placement
        with self._lock:
            with report_out_of_memory(estimate), peak_memory(planned.machine) as memory:
                with clock("load"):
                    model = self.load(job.preset, planned.machine, placement)
                run = Run(job, model, listener, folder, clock)
                try:
                    if kept is not None:
                        run.restore(*kept)
                    with clock("text"):
                        run.read_prompts()
                    if job.is_film and estimate.seconds > PREVIEW_SECONDS:
                        listener.note(f"while it grows it can be played: {run.folder}/{STREAM}")
                    with clock("film") if job.is_film else nullcontext():
                        run.make()
                except BaseException as error:
                    run.stop(error)
                    raise
            return self._finish(run, planned, memory[0])

    def _finish(self, run: Run, planned: Planned, peak_bytes: int) -> Video:
        """The record, the signed file, the sheet."""
        import numpy as np

        job = planned.job
        frames_THWC = None if job.is_film else np.concatenate(run.frames)
        count = run.count if frames_THWC is None else len(frames_THWC)
        record = run_record(job, run.model, planned.estimate, planned.clock.seconds, peak_bytes, count)
        path = None if job.request.output is None else Path(job.request.output)
        video = Video(frames_THWC, job.fps, job.request, record, path=path, mark_id=run.mark_id)
        try:
            video.report = run.close(record)
        except BaseException as error:
            run.stop(error)
            raise
        if job.request.sheet is not None:
            video.save_sheet(job.request.sheet)
        return video


ENGINE = Engine()  # of the functions below: one model stays loaded between calls


def generate(
    request: Request | str = "", *, listener: Listener | None = None, cancel: Cancel | None = None, **options: Any
) -> Video:
    """`Engine.generate` with a shared engine: makes a video of a sentence, or of a whole `Request`.

    `options` are the fields of `Request`. The file is written where `output` or `sheet` says so; `Video.save` writes it
    later.
    """
    return ENGINE.generate(request, listener=listener, cancel=cancel, **options)


def load(
    preset: Preset | str = DEFAULT_PRESET, machine: Machine | str = "auto", placement: Placement | None = None
) -> Model:
    """`Engine.load` with the shared engine: what the next `generate` of this preset need not load."""
    return ENGINE.load(preset, machine, placement)


def resume(file: str | Path, **options: Any) -> Video:
    """`Engine.resume` with the shared engine: finishes a run that stopped."""
    return ENGINE.resume(file, **options)


def _check_options(options: dict[str, Any]) -> None:
    """Raises RequestError for a keyword that is no field of a request, with the nearest that is."""
    known = [field.name for field in fields(Request)]
    for name in options:
        if name not in known:
            near = get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}? " if near else ""
            raise RequestError(f"generate has no option {name!r}", f"{hint}it has {', '.join(known)}")


def _show_options() -> None:
    """Let `help(sorano.generate)` list the options: the fields of a request."""
    own = signature(generate)
    keyword = Parameter.KEYWORD_ONLY
    options = [
        Parameter(field.name, keyword, default=field.default, annotation=field.type)
        for field in fields(Request)
        if field.name != "prompt"
    ]
    shown = [one for one in own.parameters.values() if one.kind is not Parameter.VAR_KEYWORD]
    generate.__signature__ = own.replace(parameters=[*shown, *options])  # type: ignore[attr-defined]


_show_options()


def placed(request: Request) -> Request:
    """The request with names in the place of folders: a file in it named after the prompt."""
    for name, suffix in (("output", ".mp4"), ("sheet", ".png")):
        given = getattr(request, name)
        if given is not None and (Path(given).is_dir() or str(given).endswith(("/", os.sep))):
            if request.seed is None:
                request = replace(request, seed=drawn_seed())
            inside: dict[str, Any] = {name: default_path(request, Path(given), suffix)}
            request = replace(request, **inside)
    return request


def prepare(request: Request, listener: Listener) -> Planned:
    """A request with nothing left open, where it will run, and what it should take.

    Raises CapacityError where it does not fit.
    """
    require_engine()
    preset = find_preset(request.preset)
    if preset.folder is None and preset.configs is not None:
        resolve(request, preset, preset.configs)  # a wrong request is said before missing weights are
    preset = located(preset)
    configs = preset.read_configs()
    job = resolve(request, preset, configs)
    said = check_words(job.request, preset)
    clock = StageTimer()
    with clock("probe"):
        machine = within(choose_machine(request.device, request.dtype), request.memory)
    estimate = plan(job, configs, machine)
    listener.planned(job, machine, estimate)
    for note in (*configs.notes, *job.notes, *said, *_check_kind(job)):
        listener.note(note)
    estimate.require()
    return Planned(job, configs, machine, estimate, clock)


def _check_kind(job: Job) -> list[str]:
    """What the kind of file that is asked for cannot have, in words. Raises RequestError where it holds no such job."""
    if job.request.output is None:
        return []
    from sorano.media import write

    suffix = Path(job.request.output).suffix.lower()
    width, height = job.output_size
    num_frames = round(job.shape.num_frames * job.fps / job.rate)
    write.check(suffix, fps=job.fps, width=width, height=height, num_frames=num_frames)
    return {".webm": [NO_SIGNATURE], ".gif": [FEW_COLOURS]}.get(suffix, [])


def require_engine() -> None:
    """Raises RequestError in the base install, which verifies, marks and plans, and has no torch."""
    if not is_installed("torch"):
        raise RequestError("making videos needs torch, which is not installed", install("engine"))


def check_outputs(request: Request) -> None:
    """Raises RequestError where what should be written cannot be, before any work."""
    for target in (request.output, request.sheet):
        if target is not None and Path(target).exists() and not Path(target).is_file():
            raise RequestError(f"{target} is not a file that can be written", "name a file: -o video.mp4")
    if request.output is not None:
        check_target(Path(request.output), overwrite=request.overwrite)
    if request.sheet is not None:
        check_target(Path(request.sheet), overwrite=request.overwrite, suffixes=IMAGE_SUFFIXES)
    for target in (request.output, request.sheet):
        if target is not None and any(Path(target).resolve() == file.resolve() for file in request.files):
            raise RequestError(f"{target} would be written over itself", "give another name with -o")
    if request.output is not None or request.sheet is not None:
        from sorano.trust.provenance import keys

        keys.identity()  # what cannot be signed is not begun
