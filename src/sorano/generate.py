"""The main path: a sentence becomes a file.

    request -> plan -> load -> text -> latent state -> denoise -> decode -> upscale
            -> mark -> file -> label -> sign -> confirm

`generate` is that line, in that order; each step is one call. Everything that a user can ask for is data on it. A file
appears only when it was read back: its frames, its record, its signature. Importing this module is cheap: torch comes
in with the first request.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from functools import lru_cache, partial
from importlib.util import find_spec
from inspect import Parameter, signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sorano.errors import CheckpointError, NumericsError, RequestError, VideoError
from sorano.kept import kept_until_written, read_latent
from sorano.measure import Clock, out_of_memory_is_said, peak_memory
from sorano.outgoing import BLACK, FEW_COLOURS, NO_SIGNATURE, visible_label, write_signed, write_signed_sheet
from sorano.plan import (
    Machine,
    ModelConfigs,
    Placement,
    RunEstimate,
    branches_together,
    decode_chunk,
    estimate_generate,
)
from sorano.presets import DEFAULT_PRESET, Preset, find_preset
from sorano.request import Request, Resolved, lora_expert, parse_bytes, parse_lora, resolve, slug
from sorano.shapes import LatentShape, VideoShape, format_size, latent_frames
from sorano.video import (
    IMAGE_SUFFIXES,
    check_target,
    fill,
    read_video,
    resize,
)
from sorano.wording import check_words, in_its_words

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sorano.conditions import LatentState
    from sorano.models.checkpoint import Bundle, Change
    from sorano.models.lora import Lora
    from sorano.models.text_encoder import TextTokens
    from sorano.sampling.denoise import Step
    from sorano.trust.verify import Report
    from sorano.video import Frames

MOST_BYTES_HASHED = 1_000_000_000  # the digests of a larger folder of the user's own are not taken
MOST_LATENTS = 2**31  # at once: the whole clip
PREVIEW_CELLS = 32  # latents a side of a preview
MOST_TEXTS = 64  # kept encoded with a loaded model


class Listener:
    """Hears what a run is doing. The command prints it; this one says nothing."""

    def planned(self, job: Resolved, machine: Machine, estimate: RunEstimate) -> None:
        """Before any work: what will be made, where, and what it should cost."""

    def note(self, text: str) -> None:
        """Something that the user should know: a value that was adjusted, a word that the model does not know."""

    def progress(self, stage: str, done: int, total: int) -> None:
        """`done` of `total` parts of "denoise" or "decode"."""

    def preview(self, step: int, num_steps: int, look: Callable[[], Frames]) -> None:
        """After a step of a clip: `look()` decodes what the first frame will about be, [H, W, 3]; only who calls it
        pays for it."""


@dataclass(frozen=True, repr=False)
class Model:
    """Loaded networks, where they run, and the preset they belong to."""

    preset: Preset
    machine: Machine
    bundle: Bundle
    placement: Placement = Placement(chunk=1)

    def __repr__(self) -> str:
        return f"<Model {self.preset.name}: {self.machine.device}, {self.machine.dtype}>"

    def present(self, *names: str, change: Change | None = None) -> AbstractContextManager[None]:
        """These networks of the bundle on the device (`Bundle.present`)."""
        placement = self.placement
        return self.bundle.present(
            *names, offload=placement.offload, text_on_host=placement.text_on_host, change=change
        )


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
        self.report = write_signed(self, chunks, target, len(chunks[0]), overwrite=self._overwrite(overwrite))
        self.path = target
        return target

    def save_sheet(self, path: str | Path, *, overwrite: bool | None = None) -> Path:
        """Writes a picture, marked, labelled and signed, and returns its path: evenly spaced frames, or the one."""
        check_target(Path(path), overwrite=self._overwrite(overwrite), suffixes=IMAGE_SUFFIXES)
        write_signed_sheet(self, Path(path), overwrite=self._overwrite(overwrite))
        self.sheet = Path(path)
        return self.sheet

    def _overwrite(self, asked: bool | None) -> bool:
        return self.request.overwrite if asked is None else asked


def generate(request: Request | str = "", *, listener: Listener | None = None, **options: Any) -> Video:
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
        return _variations(request, listener)
    check_outputs(request)
    job, configs, machine, estimate, clock = prepare(request, listener)
    if job.is_film:
        from sorano import stream

        return stream.make(job, machine, estimate, clock, listener)
    request = job.request
    loras = read_loras(job, listener)
    with out_of_memory_is_said(estimate), peak_memory(machine) as memory:
        with clock("load"):
            model = load(job.preset, machine, estimate.placement)
        with clock("text"):
            text = encode_text(model, job)
        with clock("state"):
            state = start(model, job, listener)
        with clock("denoise"):
            latent = denoise(model, job, text, state, listener, loras)
    with kept_until_written(request, latent, clock.seconds["denoise"]):
        return finish(job, model, estimate, latent, clock, listener, memory[0])


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
                request = replace(request, seed=secrets.randbelow(2**32))
            inside: dict[str, Any] = {name: default_path(request, Path(given), suffix)}
            request = replace(request, **inside)
    return request


def _variations(request: Request, listener: Listener) -> Video:
    """The same request with seeds one after the other, each a file of its own."""
    seed = secrets.randbelow(2**32) if request.seed is None else request.seed
    made = []
    for number in range(request.variations):
        output, sheet = (
            None if given is None else Path(given).with_stem(f"{Path(given).stem}-{number + 1}")
            for given in (request.output, request.sheet)
        )
        one = replace(request, variations=1, seed=seed + number, output=output, sheet=sheet)
        made.append(generate(one, listener=listener))
    for video in made:
        video.variations = tuple(made)
    return made[0]


def prepare(request: Request, listener: Listener) -> tuple[Resolved, ModelConfigs, Machine, RunEstimate, Clock]:
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
    clock = Clock()
    with clock("probe"):
        machine = within(choose_machine(request.device, request.dtype), request.memory)
    estimate = plan(job, configs, machine)
    listener.planned(job, machine, estimate)
    for note in (*configs.notes, *job.notes, *said, *_check_kind(job)):
        listener.note(note)
    estimate.require()
    return job, configs, machine, estimate, clock


def _check_kind(job: Resolved) -> list[str]:
    """What the kind of file that is asked for cannot have, in words. Raises RequestError where it holds no such job."""
    if job.request.output is None:
        return []
    from sorano.media import write

    suffix = Path(job.request.output).suffix.lower()
    width, height = job.output_size
    num_frames = round(job.shape.num_frames * job.fps / job.rate)
    write.check(suffix, fps=job.fps, width=width, height=height, num_frames=num_frames)
    return {".webm": [NO_SIGNATURE], ".gif": [FEW_COLOURS]}.get(suffix, [])


def resume(
    file: str | Path, *, device: str | None = None, memory: str | None = None, listener: Listener | None = None
) -> Video:
    """Finishes a run that stopped: a film from its last finished stretch, a video from its kept latent.

    On the device and within the memory that the run had, unless told: where memory ran out, give less.
    """
    from sorano import stream

    file, listener = Path(file), listener or Listener()
    elsewhere: dict[str, Any] = {"device": device, "memory": memory}
    elsewhere = {name: value for name, value in elsewhere.items() if value is not None}
    if stream.parts_of(file).is_dir():
        return stream.resume(file, listener, elsewhere)
    request, latent_BCTHW = read_latent(file)
    request = replace(request, **elsewhere)
    check_outputs(request)
    job, _, machine, estimate, clock = prepare(request, listener)
    with clock("load"):
        model = load(job.preset, machine, replace(estimate.placement, in_turn=True))  # only the decoder is needed
    video = finish(job, model, estimate, latent_BCTHW, clock, listener)
    file.unlink()
    return video


# The steps, in the order of the path.


def require_engine() -> None:
    """Raises RequestError in the base install, which verifies, marks and plans, and has no torch."""
    with suppress(ImportError, ValueError):
        if find_spec("torch") is not None:
            return
    raise RequestError("making videos needs torch, which is not installed", "pip install 'sorano[engine]'")


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
        from sorano.trust import keys

        keys.identity()  # what cannot be signed is not begun


def choose_machine(device: str, dtype: str = "auto") -> Machine:
    """The device, the dtype and their measured rate (`sorano.device`)."""
    from sorano import device as devices

    return devices.in_dtype(devices.choose_machine(device), dtype)


def located(preset: Preset) -> Preset:
    """The preset with its folder (`sorano.hub.located`)."""
    if preset.folder is not None:
        return preset
    from sorano import hub

    return hub.located(preset)


def plan(job: Resolved, configs: ModelConfigs, machine: Machine) -> RunEstimate:
    """Memory and seconds of the job."""
    request = job.request
    assert request.num_steps is not None and request.guidance is not None
    if job.is_film:
        from sorano import stream

        shape, windows = stream.windows(job)
    else:
        shape, windows = job.shape, 1
    estimate = estimate_generate(
        configs,
        machine,
        shape,
        num_steps=request.num_steps,
        guided=request.guidance > 1,
        fps=job.fps,
        upscale=job.upscale,
        has_pictures=bool(request.files),
        is_film=job.is_film,
        is_written=request.output is not None or request.sheet is not None,
    )
    return estimate if windows == 1 else estimate.times(windows)


def within(machine: Machine, memory: str | None) -> Machine:
    """The machine with no more memory than the user allows, and no more than is free."""
    if memory is None:
        return machine
    allowed = parse_bytes(memory)
    return replace(machine, free_bytes=allowed if machine.free_bytes is None else min(allowed, machine.free_bytes))


def load(
    preset: Preset | str = DEFAULT_PRESET, machine: Machine | str = "auto", placement: Placement | None = None
) -> Model:
    """The networks of a preset on a device, their files checked against the pinned digests. Loaded once.

    A `placement` where networks take turns loads none yet: each comes for its stage.

    Raises CheckpointError naming the file that is missing, corrupt, or not the pinned one.
    """
    preset = located(find_preset(preset) if isinstance(preset, str) else preset)
    machine = choose_machine(machine) if isinstance(machine, str) else machine
    placement = placement or Placement(chunk=MOST_LATENTS)
    bundle = _load(preset, machine.device, machine.dtype, filled=not placement.in_turn)
    return Model(preset, machine, bundle, placement)


def encode_text(model: Model, job: Resolved) -> TextTokens:
    """The prompt and the negative prompt as text tokens, a batch of two; encoded once while the model is loaded.

    A small vocabulary reads them in its own words (`sorano.wording.in_its_words`). Raises RequestError for a prompt
    longer than the model reads.
    """
    import torch

    prompts = [in_its_words(job.preset, text) for text in (job.request.prompt, job.request.negative_prompt or "")]
    for name, prompt in zip(("prompt", "negative prompt"), prompts, strict=True):
        check_length(model, name, prompt)
    known = model.bundle.texts
    digest = hashlib.sha256("\0".join([model.machine.dtype, *prompts]).encode()).hexdigest()
    if digest not in known:
        with torch.inference_mode(), model.present("text_encoder"):
            ids = model.bundle.tokenizer.encode(prompts)
            text = model.bundle.text_encoder.encode(ids, dtype=getattr(torch, model.machine.dtype))
        if len(known) >= MOST_TEXTS:
            known.pop(next(iter(known)))
        known[digest] = text.to(model.machine.device)
    return known[digest]


def check_length(model: Model, name: str, prompt: str) -> None:
    """Raises RequestError for a prompt longer than the model reads, which would be cut silently."""
    from sorano.models.text_encoder import clean_prompt

    tokenizer = model.bundle.tokenizer
    count = len(tokenizer.fast.encode(clean_prompt(prompt)).ids)
    if count > tokenizer.max_length:
        raise RequestError(
            f"the {name} is {count} tokens long; the model reads {tokenizer.max_length}", "say it in fewer words"
        )


@dataclass(frozen=True)
class Eyes:
    """The model as conditions see it (`sorano.conditions.Taker`)."""

    model: Model

    @property
    def takes(self) -> str:
        return self.model.bundle.takes

    def encode(self, video_BCTHW: Tensor) -> Tensor:
        """Pixels to normalised latents on the CPU in float32."""
        import torch

        machine, vae = self.model.machine, self.model.bundle.vae
        _, _, num_frames, height, width = video_BCTHW.shape
        chunk = decode_chunk(VideoShape(num_frames, height, width), latent_frames(num_frames))
        video_BCTHW = video_BCTHW.to(machine.device, getattr(torch, machine.dtype))
        return vae.encode_in_chunks(video_BCTHW, chunk).float().cpu()

    def see(self, frames: list[Frames]) -> Tensor | None:
        """Tokens of pictures on the CPU, one picture's after the other's; None where the model has no such eyes."""
        import torch

        encoder, processor = self.model.bundle.image_encoder, self.model.bundle.image_processor
        if encoder is None or processor is None:
            return None
        machine = self.model.machine
        images_BCHW = torch.cat([processor(frame_HWC) for frame_HWC in frames])
        tokens_BSD = encoder.encode(images_BCHW.to(machine.device, getattr(torch, machine.dtype)))
        return tokens_BSD.flatten(0, 1)[None].float().cpu()


def start(model: Model, job: Resolved, listener: Listener) -> LatentState:
    """The noise of the seed, and what the user gave of the video."""
    from sorano.conditions import start_state

    request, vae = job.request, model.bundle.vae
    assert request.seed is not None
    latent = job.shape.latent(spatial=vae.config.scale_factor_spatial, temporal=vae.config.scale_factor_temporal)
    state = start_state([request.seed], vae.config.z_dim, latent)
    return with_given(model, state, job.shape, request.given, job.rate, listener)


def with_given(
    model: Model, state: LatentState, shape: VideoShape, given: Sequence[Any], rate: float, listener: Listener
) -> LatentState:
    """The state with what is given put into it."""
    import torch

    from sorano.conditions import as_channels

    if not given:
        return state
    eyes = Eyes(model)
    with torch.inference_mode(), model.present("vae", "image_encoder"):
        for condition in given:
            state, said = condition.apply(state, shape, eyes, rate)
            listener.note(said)
        return as_channels(state, shape, eyes)


def read_loras(job: Resolved, listener: Listener) -> list[LoraUse]:
    """The LoRA files of a request. Raises CheckpointError naming what is wrong with one, and RequestError where it is
    not said for which of two experts each of a pair is."""
    if not job.request.lora:
        return []
    from sorano.models.lora import load_lora

    has_two = job.preset.read_configs().transformer_2 is not None
    uses, open_ones = [], []
    for text in job.request.lora:
        file, scale = parse_lora(text)
        lora, expert = load_lora(file), lora_expert(text)
        if lora.left_out:
            listener.note(f"{lora.path.name}: {len(lora.left_out)} of its tensors are for no transformer: left out")
        if not has_two:
            expert = None
        elif expert is not None and "transformer_2" not in lora.parts:
            listener.note(f"{lora.path.name} is merged into the expert for {expert} noise")
        elif "transformer_2" not in lora.parts:
            open_ones.append(lora)
        uses.append(LoraUse(lora, scale, EXPERTS.get(expert or "")))
    for one in open_ones:
        twin = next((other.lora for other in uses if other.lora is not one and _same_weights(one, other.lora)), None)
        if twin is not None:
            raise RequestError(
                f"{one.path.name} and {twin.path.name} change the same weights, and {job.preset.name} has two experts",
                f"say which is for which: --lora {one.path.name}@high --lora {twin.path.name}@low",
            )
    return uses


EXPERTS = {"high": "transformer", "low": "transformer_2"}  # by the noise that each is for


@dataclass(frozen=True)
class LoraUse:
    """A LoRA, how much of it, and into which transformer it goes: None, into each (or as its own keys say)."""

    lora: Lora
    scale: float
    network: str | None = None


def _same_weights(a: Lora, b: Lora) -> bool:
    return {name: set(part) for name, part in a.parts.items()} == {name: set(part) for name, part in b.parts.items()}


def merged(loras: Sequence[LoraUse], listener: Listener) -> Change:
    """Merges LoRAs into a transformer while it is present, and takes them out again, to the bit.

    What a LoRA has for layers that this transformer lacks is left out and said: files made for its siblings have some.
    """

    @contextmanager
    def change(name: str, network: nn.Module) -> Iterator[None]:
        from sorano.models.lora import merge, unmerge

        with ExitStack() as stack:
            for use in loras:
                if use.network not in (None, name):
                    continue
                part = name if name in use.lora.parts else "transformer"
                left_out = merge(network, use.lora, use.scale, part=part, strict=False)
                stack.callback(unmerge, network, use.lora)
                if left_out:
                    listener.note(f"{use.lora.path.name}: {len(left_out)} of its tensors do not belong to this {name}")
            yield

    return change


def denoise(
    model: Model,
    job: Resolved,
    text: TextTokens,
    state: LatentState,
    listener: Listener,
    loras: Sequence[LoraUse] = (),
) -> Tensor:
    """Noise to latent_BCTHW, step by step. Raises NumericsError at the first step that is not finite."""
    import torch

    from sorano.sampling.denoise import LowNoise
    from sorano.sampling.denoise import denoise as steps_of
    from sorano.sampling.schedule import SCHEDULES, read_scheduler_config
    from sorano.sampling.solver import SOLVERS

    request, bundle = job.request, model.bundle
    assert request.num_steps is not None and request.guidance is not None
    solver, shift = read_scheduler_config(bundle.scheduler_config)
    turns = ExitStack()  # the expert whose turn it is
    low_noise = None
    if bundle.transformer_2 is not None:
        boundary = bundle.boundary if job.preset.boundary is None else job.preset.boundary
        assert boundary is not None and request.guidance_2 is not None

        def second_turn() -> None:
            turns.close()
            turns.enter_context(model.present("transformer_2", change=merged(loras, listener)))

        low_noise = LowNoise(bundle.transformer_2, boundary, request.guidance_2, second_turn)
    device = model.machine.device

    def there(tensor: Tensor | None) -> Tensor | None:
        return tensor if tensor is None else tensor.to(device)

    schedule = SCHEDULES[solver](request.num_steps, shift if request.shift is None else request.shift)
    noise_BCTHW = state.noise_BCTHW
    if state.data_BCTHW is not None:
        schedule = schedule.beginning_at(state.strength)
        sigma = schedule.sigmas[0]
        noise_BCTHW = sigma * noise_BCTHW + (1 - sigma) * state.data_BCTHW
    steps = steps_of(
        bundle.transformer,
        noise_BCTHW.to(device),
        text[:1],
        schedule,
        negative_text=text[1:],
        guidance=request.guidance,
        branches_together=branches_together(
            LatentShape(*state.noise_BCTHW.shape[2:]), bundle.transformer.config.patch_size
        ),
        low_noise=low_noise,
        known_BCTHW=there(state.known_BCTHW),
        known_mask_BTHW=there(state.known_mask_BTHW),
        beside_BCTHW=there(state.beside_BCTHW),
        image_BSD=there(state.image_BSD),
        known_noise=state.known_noise,
        positions_T=state.positions_T,
        solver=SOLVERS[solver],
        dtype=getattr(torch, model.machine.dtype),
    )
    listener.progress("denoise", 0, schedule.num_steps)
    with turns:
        turns.enter_context(model.present("transformer", change=merged(loras, listener)))
        before = None
        for step in steps:
            listener.progress("denoise", step.index, step.num_steps)
            listener.preview(step.index, step.num_steps, partial(first_frame, model, step, before))
            before = step
    latent_BCTHW = step.latent
    return latent_BCTHW[:, :, : latent_BCTHW.shape[2] - state.appended]


def first_frame(model: Model, step: Step, before: Step | None) -> Frames:
    """About what the first frame will be, [H, W, 3], at most PREVIEW_CELLS latents a side.

    The step before tells the velocity, and that tells the data: x - sigma * velocity. Latents are averaged down to what
    decodes in a moment; where the decoder is not loaded (networks in turn), the first three channels stand for colours.
    """
    import torch
    from torch.nn.functional import adaptive_avg_pool2d

    latent_BCTHW = step.latent
    if before is not None and before.sigma > step.sigma:
        velocity = (before.latent - step.latent) / (before.sigma - step.sigma)
        latent_BCTHW = step.latent - step.sigma * velocity
    with torch.inference_mode():
        latent_BCHW = latent_BCTHW[:1, :, 0].float()
        height, width = latent_BCHW.shape[2:]
        scale = min(1.0, PREVIEW_CELLS / max(height, width))
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
        small_BCTHW = adaptive_avg_pool2d(latent_BCHW, size)[:, :, None]
        if model.placement.in_turn:
            shown_HWC = small_BCTHW[0, :3, 0].permute(1, 2, 0).cpu()
            shown_HWC = (shown_HWC - shown_HWC.amin()) / (shown_HWC.amax() - shown_HWC.amin()).clamp_min(1e-6)
            return (255 * shown_HWC).byte().numpy()
        dtype = getattr(torch, model.machine.dtype)
        return finite_frames(model.bundle.vae.decode(small_BCTHW.to(model.machine.device, dtype)), model.machine)[0]


def decode(model: Model, latent_BCTHW: Tensor, listener: Listener) -> Iterator[Frames]:
    """Latents to frames_THWC, chunk by chunk. Raises NumericsError for frames that are not finite."""
    import torch

    vae, placement = model.bundle.vae, model.placement
    total = latent_BCTHW.shape[2]
    chunk = min(placement.chunk, total)
    latent_BCTHW = latent_BCTHW.to(model.machine.device, getattr(torch, model.machine.dtype))
    listener.progress("decode", 0, total)

    def chunks() -> Iterator[Tensor]:
        if placement.tile is not None:
            yield vae.decode_tiled(latent_BCTHW, placement.tile, chunk)
        elif chunk < total:
            yield from vae.decode_stream(torch.split(latent_BCTHW, chunk, dim=2))
        else:
            yield vae.decode(latent_BCTHW)

    with model.present("vae"):
        for index, video_BCTHW in enumerate(inferred(chunks())):
            yield finite_frames(video_BCTHW, model.machine, f" in latent frame {index * chunk} of {total}")
            listener.progress("decode", total if placement.tile else min(total, (index + 1) * chunk), total)


def finite_frames(video_BCTHW: Tensor, machine: Machine, place: str = "") -> Frames:
    """Decoded pixels as frames_THWC. Raises NumericsError where they are not finite."""
    import torch

    from sorano.conditions import video_to_frames

    if not bool(torch.isfinite(video_BCTHW).all()):
        raise NumericsError(
            f"the decoder gave NaN or infinity{place}, computing in {machine.dtype}",
            "the weights or this dtype are at fault: try --dtype float32, or --device cpu",
        )
    return video_to_frames(video_BCTHW)


def inferred(tensors: Iterator[Tensor]) -> Iterator[Tensor]:
    """What an iterator computes, without gradients; what its consumer does meanwhile is not touched by that."""
    import torch

    while True:
        with torch.inference_mode():
            tensor = next(tensors, None)
        if tensor is None:
            return
        yield tensor


def finish(
    job: Resolved,
    model: Model,
    estimate: RunEstimate,
    latent_BCTHW: Tensor,
    clock: Clock,
    listener: Listener,
    peak_bytes: int = 0,
) -> Video:
    """What follows denoising: decode, upscale, mark, encode, sign. `peak_bytes` is the peak of what came before.

    Each chunk is marked and encoded while the next ones are decoded; a failure on either side leaves no file.
    """
    import numpy as np

    from sorano.trust.release import id_of

    request = job.request
    mark_id = id_of(latent_BCTHW.float().cpu().numpy(), job.fps, job.output_size, visible_label(request))
    video = Video(np.empty((0, 0, 0, 3), np.uint8), job.fps, request, {}, mark_id=mark_id)
    chunks: list[Frames] = []

    def decoded() -> Iterator[Frames]:
        with out_of_memory_is_said(estimate), peak_memory(model.machine) as memory:
            for chunk in clock.each("decode", composed(job, decode(model, latent_BCTHW, listener))):
                chunks.append(chunk)
                yield chunk
        video._frames_THWC = np.concatenate(chunks)
        require_picture(video.frames_THWC)
        video.record = write_record(
            job, model, estimate, clock.seconds, max(peak_bytes, memory[0]), len(video.frames_THWC)
        )

    if request.output is not None:
        video.path = Path(request.output)
        num_frames = job.shape.num_frames if job.source is None else job.source.num_frames
        video.report = write_signed(
            video, decoded(), video.path, num_frames, overwrite=request.overwrite, aspect=job.aspect
        )
    else:
        for _ in decoded():
            pass
    if request.sheet is not None:
        video.save_sheet(request.sheet)
    return video


def composed(job: Resolved, chunks: Iterable[Frames]) -> Iterator[Frames]:
    """Decoded frames at the file's size and rate; given frames in their places; outside a region, the video's own."""
    import numpy as np

    from sorano.conditions import Keyframe, LastFrame, Region, picture
    from sorano.frames import alpha_inside, at_rate, through

    sized = (resize(chunk, *job.output_size) for chunk in chunks)
    by_tokens = "keyframe" in job.kinds  # led to, and reached here
    given = [one for one in job.request.given if isinstance(one, Keyframe | LastFrame)] if by_tokens else []
    if given:
        frames_THWC = np.concatenate(list(sized))
        for one in given:
            place = one.place(job.shape, job.rate) if isinstance(one, Keyframe) else len(frames_THWC) - 1
            frames_THWC = through(frames_THWC, place, fill(picture(one.image), *job.output_size)[0])
        yield frames_THWC
        return
    if job.source is None:
        yield from sized
        return
    made = at_rate(sized, job.rate, job.fps, job.source.num_frames)
    region = next((one for one in job.request.conditions if isinstance(one, Region)), None)
    if region is None:
        yield from made
        return
    alpha_HW1 = alpha_inside(region.mask_HW(job.source))[..., None]
    when_F = region.when(job.source.num_frames, job.fps)
    own = (frame for chunk in job.source.frames() for frame in chunk)
    frames = (frame for chunk in made for frame in chunk)
    for frame_HWC, own_HWC, now in zip(frames, own, when_F, strict=False):
        mixed = own_HWC + alpha_HW1 * (frame_HWC.astype("float32") - own_HWC)
        yield (mixed.round().astype("uint8") if now else own_HWC)[None]


def require_picture(frames_THWC: Frames) -> None:
    """Raises NumericsError where every frame is black."""
    brightest = int(frames_THWC.max())
    if brightest <= BLACK:
        raise NumericsError(
            f"every frame is black: no value above {brightest} of 255",
            "another --seed may help; if it does not, the weights are not what this version expects",
        )


# What the steps share.


def default_path(request: Request, folder: Path | None = None, suffix: str = ".mp4") -> Path:
    """A name from the prompt and the seed that is not taken: ball.mp4, ball-2.mp4, ball-3.mp4 ..."""
    folder = Path.cwd() if folder is None else folder
    stem = f"{'video' if request.private else slug(request.prompt)}-{request.seed}"
    path, number = folder / f"{stem}{suffix}", 2
    while path.exists():
        path, number = folder / f"{stem}-{number}{suffix}", number + 1
    return path


def write_record(
    job: Resolved, model: Model, estimate: RunEstimate, seconds: dict[str, float], peak_bytes: int, num_frames: int
) -> dict[str, Any]:
    """What is stored in the file: the request, the preset's digests, the plan and the measurement."""
    import torch

    from sorano import __version__, library
    from sorano.models.checkpoint import sha256

    loras = [parse_lora(text) for text in job.request.lora]
    return {
        "sorano": __version__,
        "request": job.request.to_dict(),
        "made": {"size": format_size(*job.output_size), "num_frames": num_frames, "fps": job.fps},
        **({"files": library.keep(job.request.named_files)} if job.request.files and not job.request.private else {}),
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


@lru_cache(maxsize=1)
def _load(preset: Preset, device: str, dtype: str, *, filled: bool = True) -> Bundle:
    import torch

    from sorano.models import checkpoint
    from sorano.sampling.schedule import read_scheduler_config

    assert preset.folder is not None
    pinned = {} if preset.repo else preset.digests()  # a pulled folder's files were checked when it was located
    try:
        read_scheduler_config(checkpoint.read_scheduler_words(preset.folder))  # before the weights, which take longer
    except ValueError as error:
        raise CheckpointError(f"{preset.folder}/scheduler/scheduler_config.json: {error}") from error
    bundle = checkpoint.load(preset.folder, device=device, dtype=getattr(torch, dtype), digests=pinned, filled=filled)
    if preset.repo:
        from sorano import hub

        return replace(bundle, digests=hub.digests(preset.folder))
    if pinned or _folder_bytes(preset.folder) > MOST_BYTES_HASHED:
        return bundle
    return replace(bundle, digests=checkpoint.digests_of(preset.folder))  # not pinned, but recorded


def _folder_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


__all__ = ["CheckpointError", "Listener", "Model", "Video", "default_path", "generate", "load", "resume"]
