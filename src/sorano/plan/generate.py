"""Memory and seconds of making one video, from the configurations of the networks and the machine.

    memory   = what Python and torch take + the widest stage (`sorano.plan.memory`) + the frames
    seconds  = FLOPs / (the machine's measured matmul rate x the share of it that such work reaches)
               + what each layer costs besides (launching it), + loading + writing

The shares are measured by `benchmarks/generate.py`; small clips reach less, which the cost per layer stands
for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from sorano.errors import CapacityError
from sorano.models.config import MAX_TEXT_TOKENS
from sorano.plan.machine import Machine
from sorano.plan.memory import Job, Placement, branches_together, choose
from sorano.plan.model import ModelConfigs
from sorano.shapes import VideoShape, latent_frames, nearest_size, video_frames

DENOISE_SHARE = 0.5  # of the matmul rate that the transformer reaches on long clips
DECODE_SHARE = 0.25  # that the convolutions of the VAE reach
SECONDS_PER_LAYER = {True: 0.4e-3, False: 0.1e-3}  # on a CPU, on an accelerator: launching what is in a block
WRITE_PIXELS_PER_SECOND = 25e6  # Lanczos and x264 on two cores
LOAD_BYTES_PER_SECOND = 1e9
LOAD_SECONDS = 0.5  # importing and building the networks, whatever their size
BASE_BYTES = 450_000_000  # Python, torch and PyAV on a CPU
TEXT_TOKENS = 64  # a sentence; the exact number is known only to the tokenizer


@dataclass(frozen=True)
class Estimate:
    """What a run should take. Compared with what it did take in the record of each file."""

    peak_bytes: int
    free_bytes: int | None
    text_seconds: float
    denoise_seconds: float
    decode_seconds: float
    write_seconds: float
    load_seconds: float
    denoise_flops: int
    decode_flops: int
    placement: Placement
    stage_bytes: dict[str, int]  # of text, state, denoise and decode, on the device
    largest_fit: str | None = None  # what would fit in words, where this does not

    @property
    def seconds(self) -> float:
        """All of it."""
        stages = (self.load_seconds, self.text_seconds, self.denoise_seconds, self.decode_seconds)
        return sum(stages) + self.write_seconds

    @property
    def fits(self) -> bool:
        """Whether the free memory is enough; true where the system does not say."""
        return self.free_bytes is None or self.peak_bytes <= self.free_bytes

    def require(self) -> None:
        """Raises CapacityError, with what would fit, where the memory is not enough."""
        if not self.fits:
            free = self.free_bytes or 0
            raise CapacityError(
                f"it needs about {format_bytes(self.peak_bytes)} of memory, and {format_bytes(free)} is free",
                f"this would fit: {self.largest_fit}" if self.largest_fit else "use a smaller preset",
            )


def estimate_generate(
    configs: ModelConfigs,
    machine: Machine,
    shape: VideoShape,
    *,
    num_steps: int,
    guided: bool = True,
    fps: float = 12.0,
    upscale: int = 1,
    has_pictures: bool = False,
) -> Estimate:
    """The cost of a video of this shape. `guided`: each step runs for the prompt and the negative prompt."""
    settings = (num_steps, 2 if guided else 1, upscale, has_pictures)
    estimate = _estimate(configs, machine, shape, *settings)
    if estimate.fits:
        return estimate
    for smaller in _smaller(shape, configs.pixel_grid):
        if _estimate(configs, machine, smaller, *settings).fits:
            words = f"--size {smaller.size} --seconds {smaller.num_frames / fps:.3g}"
            return replace(estimate, largest_fit=words)
    return estimate


def format_bytes(count: float) -> str:
    """Bytes as people read them: "450 MB", "1.4 GB"."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _estimate(
    configs: ModelConfigs,
    machine: Machine,
    shape: VideoShape,
    num_steps: int,
    branches: int,
    upscale: int,
    has_pictures: bool,
) -> Estimate:
    transformer, vae, text = configs.transformer, configs.vae, configs.text_encoder
    latent = shape.latent(spatial=vae.scale_factor_spatial, temporal=vae.scale_factor_temporal)
    tokens = min(TEXT_TOKENS, MAX_TEXT_TOKENS)
    images = configs.image_encoder.num_tokens if configs.image_encoder else 0
    if transformer.pos_embed_seq_len is not None:
        images = transformer.pos_embed_seq_len  # of a first and a last picture
    denoise_flops = num_steps * transformer.flops(latent, batch=branches, text_tokens=tokens, image_tokens=images)
    decode_flops = vae.decode_flops(shape)
    layers = num_steps * transformer.num_layers + text.num_layers
    per_layer = SECONDS_PER_LAYER[machine.on_cpu]
    weights = sum(network.weight_bytes(machine.bytes_per_value) for network in configs.networks())
    pixels = shape.num_frames * shape.height * shape.width
    beside = BASE_BYTES + 3 * pixels * (1 + upscale**2) if machine.on_cpu else 0
    together = branches if branches_together(latent, transformer.patch_size) else 1
    job = Job(shape, together, tokens, images, has_pictures)
    free = machine.free_bytes
    placement, stages = choose(configs, machine, job, None if free is None else free - beside)
    return Estimate(
        peak_bytes=beside + max(stages.values()),
        free_bytes=free,
        text_seconds=text.flops(tokens, batch=branches) / machine.flops_per_second / DENOISE_SHARE
        + per_layer * text.num_layers,
        denoise_seconds=denoise_flops / machine.flops_per_second / DENOISE_SHARE + per_layer * layers,
        decode_seconds=decode_flops / machine.flops_per_second / DECODE_SHARE + 20 * per_layer,
        write_seconds=pixels * upscale**2 / WRITE_PIXELS_PER_SECOND,
        load_seconds=LOAD_SECONDS + weights / LOAD_BYTES_PER_SECOND,
        denoise_flops=denoise_flops,
        decode_flops=decode_flops,
        placement=placement,
        stage_bytes=stages,
    )


def _smaller(shape: VideoShape, grid: int) -> Iterator[VideoShape]:
    """Shapes to offer instead: shorter ones first, then smaller ones."""
    for scale in (1.0, 0.75, 0.5, 0.35, 0.25, 0.125):
        width, height = nearest_size(round(shape.width * scale), round(shape.height * scale), grid)
        for latents in _fewer(latent_frames(shape.num_frames)):
            yield VideoShape(video_frames(latents), height, width)


def _fewer(latents: int) -> Iterator[int]:
    while latents >= 1:
        yield latents
        if latents == 1:
            return
        latents = max(1, latents * 3 // 4)
