"""The steps from a job to frames, in the order of the path; each is one call.

    plan -> load -> text -> conditions -> denoise -> decode -> compose

`sorano.engine` calls them, `sorano.stream` repeats them segment by segment. Importing this module is cheap: torch comes
in with the first step that computes.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sorano import threads
from sorano.errors import CheckpointError, NumericsError, RequestError
from sorano.frames import BLACK, resample_rate
from sorano.listener import Listener
from sorano.plan import (
    Machine,
    ModelConfigs,
    Placement,
    RunEstimate,
    branches_together,
    decode_chunk,
    estimate_generate,
)
from sorano.presets import Preset
from sorano.prompt_editing import replace_synonyms
from sorano.request import lora_expert, parse_bytes, parse_lora
from sorano.segments import windows
from sorano.shapes import Geometry, LatentShape, VideoShape
from sorano.video import resize

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sorano.conditions import LatentState
    from sorano.models.checkpoint import Bundle, Change
    from sorano.models.lora import Lora
    from sorano.models.wan.text_encoder import TextTokens
    from sorano.resolve import Job
    from sorano.sampling.denoise import LowNoise, Step
    from sorano.video import Frames

MOST_BYTES_HASHED = 1_000_000_000  # the digests of a larger folder of the user's own are not taken
PREVIEW_CELLS = 32  # latents a side of a preview
MOST_TEXTS = 64  # kept encoded with a loaded model


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


def plan(job: Job, configs: ModelConfigs, machine: Machine) -> RunEstimate:
    """Memory and seconds of the job."""
    request = job.request
    assert request.num_steps is not None and request.guidance is not None
    shape, count = windows(job)
    width, height = job.output_size
    estimate = estimate_generate(
        configs,
        machine,
        shape,
        num_steps=request.num_steps,
        guided=request.guidance > 1,
        fps=job.fps,
        upscale=math.sqrt(width * height / (shape.width * shape.height)),
        has_pictures=bool(request.files),
        is_film=job.is_film,
        is_written=request.output is not None or request.sheet is not None,
    )
    return estimate if count == 1 else estimate.times(count)


def within(machine: Machine, memory: str | None) -> Machine:
    """The machine with no more memory than the user allows, and no more than is free."""
    if memory is None:
        return machine
    allowed = parse_bytes(memory)
    return replace(machine, free_bytes=allowed if machine.free_bytes is None else min(allowed, machine.free_bytes))


def load_bundle(preset: Preset, device: str, dtype: str, *, filled: bool = True) -> Bundle:
    """The networks of a preset, their files checked against the pinned digests; not `filled`, without their weights,
    each of which comes for its stage.

    Raises CheckpointError naming the file that is missing, corrupt, or not the pinned one.
    """
    import torch

    from sorano.models import checkpoint
    from sorano.models.registry import load
    from sorano.sampling.schedule import read_scheduler_config

    assert preset.folder is not None
    pinned = {} if preset.repo else preset.digests()  # a pulled folder's files were checked when it was located
    try:
        read_scheduler_config(checkpoint.read_scheduler_words(preset.folder))  # before the weights, which take longer
    except ValueError as error:
        raise CheckpointError(f"{preset.folder}/scheduler/scheduler_config.json: {error}") from error
    bundle = load(preset.folder, device=device, dtype=getattr(torch, dtype), digests=pinned, filled=filled)
    if preset.repo:
        from sorano import hub

        return replace(bundle, digests=hub.digests(preset.folder))
    if pinned or _folder_bytes(preset.folder) > MOST_BYTES_HASHED:
        return bundle
    return replace(bundle, digests=checkpoint.digests_of(preset.folder))  # not pinned, but recorded


def _folder_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def encode_text(model: Model, job: Job) -> TextTokens:
    """The prompt and the negative prompt as text tokens, a batch of two; encoded once while the model is loaded.

    For a small vocabulary, everyday words are replaced by its own (`sorano.prompt_editing.replace_synonyms`). Raises
    RequestError for a prompt longer than the model reads.
    """
    import torch

    prompts = [replace_synonyms(job.preset, text) for text in (job.request.prompt, job.request.negative_prompt or "")]
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
    from sorano.models.wan.text_encoder import clean_prompt

    tokenizer = model.bundle.tokenizer
    count = len(tokenizer.fast.encode(clean_prompt(prompt)).ids)
    if count > tokenizer.max_length:
        raise RequestError(
            f"the {name} is {count} tokens long; the model reads {tokenizer.max_length}", "say it in fewer words"
        )


@dataclass(frozen=True)
class ModelEncoder:
    """The encoders of a loaded model, for its conditions (`sorano.conditions.ConditionEncoder`)."""

    model: Model

    @property
    def takes(self) -> str:
        return self.model.bundle.takes

    @property
    def geometry(self) -> Geometry:
        return self.model.bundle.geometry

    def encode(self, video_BCTHW: Tensor) -> Tensor:
        """Pixels to normalised latents on the CPU in float32."""
        import torch

        machine, vae = self.model.machine, self.model.bundle.vae
        _, _, num_frames, height, width = video_BCTHW.shape
        chunk = decode_chunk(VideoShape(num_frames, height, width), self.geometry)
        video_BCTHW = video_BCTHW.to(machine.device, getattr(torch, machine.dtype))
        return vae.encode_in_chunks(video_BCTHW, chunk).float().cpu()

    def see(self, frames: list[Frames]) -> Tensor | None:
        """Tokens of pictures on the CPU, one picture's after the other's; None where the model has no image encoder."""
        import torch

        encoder, processor = self.model.bundle.image_encoder, self.model.bundle.image_processor
        if encoder is None or processor is None:
            return None
        machine = self.model.machine
        images_BCHW = torch.cat([processor(frame_HWC) for frame_HWC in frames])
        tokens_BSD = encoder.encode(images_BCHW.to(machine.device, getattr(torch, machine.dtype)))
        return tokens_BSD.flatten(0, 1)[None].float().cpu()


def start(model: Model, job: Job, listener: Listener) -> LatentState:
    """The noise of the seed, and what the user gave of the video."""
    from sorano.conditions import start_state

    request, vae = job.request, model.bundle.vae
    assert request.seed is not None
    latent = model.bundle.geometry.latent(job.shape)
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
    encoder = ModelEncoder(model)
    with torch.inference_mode(), model.present("vae", "image_encoder"):
        for condition in given:
            state, said = condition.apply(state, shape, encoder, rate)
            listener.note(said)
        return as_channels(state, shape, encoder)


def read_loras(job: Job, listener: Listener) -> list[LoraUse]:
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
    job: Job,
    text: TextTokens,
    state: LatentState,
    listener: Listener,
    loras: Sequence[LoraUse] = (),
) -> Tensor:
    """Noise to latent_BCTHW, step by step. Raises NumericsError at the first step that is not finite."""
    import torch

    from sorano.sampling.denoise import denoise as steps_of
    from sorano.sampling.schedule import SCHEDULES, read_scheduler_config
    from sorano.sampling.solver import SOLVERS

    request, bundle = job.request, model.bundle
    assert request.num_steps is not None and request.guidance is not None
    solver, shift = read_scheduler_config(bundle.scheduler_config)
    schedule = SCHEDULES[solver](request.num_steps, shift if request.shift is None else request.shift)
    noise_BCTHW = state.noise_BCTHW
    if state.data_BCTHW is not None:
        schedule = schedule.beginning_at(state.strength)
        sigma = schedule.sigmas[0]
        noise_BCTHW = sigma * noise_BCTHW + (1 - sigma) * state.data_BCTHW
    device, loaded = model.machine.device, ExitStack()  # the expert that is on the device

    def there(tensor: Tensor | None) -> Tensor | None:
        return tensor if tensor is None else tensor.to(device)

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
        low_noise=_low_noise(model, job, listener, loras, loaded),
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
    with loaded:
        loaded.enter_context(model.present("transformer", change=merged(loras, listener)))
        before = None
        for step in steps:
            threads.adapt()
            listener.check()
            listener.progress("denoise", step.index, step.num_steps)
            listener.preview(step.index, step.num_steps, partial(first_frame, model, step, before, state.first_new))
            before = step
    return step.latent[:, :, : step.latent.shape[2] - state.appended]


def _low_noise(
    model: Model, job: Job, listener: Listener, loras: Sequence[LoraUse], loaded: ExitStack
) -> LowNoise | None:
    """The second expert, of a model that has two; when its steps begin it takes the first one's place in `loaded`."""
    from sorano.sampling.denoise import LowNoise

    bundle, guidance = model.bundle, job.request.guidance_2
    if bundle.transformer_2 is None:
        return None
    boundary = bundle.boundary if job.preset.boundary is None else job.preset.boundary
    assert boundary is not None and guidance is not None

    def begin() -> None:
        loaded.close()
        loaded.enter_context(model.present("transformer_2", change=merged(loras, listener)))

    return LowNoise(bundle.transformer_2, boundary, guidance, begin)


def first_frame(model: Model, step: Step, before: Step | None, at: int = 0) -> Frames:
    """About what the frame of a latent frame will be, [H, W, 3], at most PREVIEW_CELLS latents a side.

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
        latent_BCHW = latent_BCTHW[:1, :, at].float()
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
            threads.adapt()
            listener.check()
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


def composed(job: Job, chunks: Iterable[Frames]) -> Iterator[Frames]:
    """Decoded frames at the file's size and rate, with what the conditions put in their place."""
    made: Iterator[Frames] = (resize(chunk, *job.output_size) for chunk in chunks)
    if job.source is not None:
        made = resample_rate(made, job.rate, job.fps, job.source.num_frames)
    for condition in job.request.given:
        made = condition.compose(job, made)
    yield from made


def require_picture(chunks: Iterable[Frames]) -> None:
    """Raises NumericsError where every frame is black."""
    brightest = max(int(frames_THWC.max()) for frames_THWC in chunks)
    if brightest <= BLACK:
        raise NumericsError(
            f"every frame is black: no value above {brightest} of 255",
            "another --seed may help; if it does not, the weights are not what this version expects",
        )
