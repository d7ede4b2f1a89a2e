"""Memory and seconds of making one video, from the configurations of the networks and the machine.

    memory   = what Python and torch take + the widest stage (`sorano.plan.memory`) + the frames
    seconds  = FLOPs / (the machine's measured matmul rate x the share of it that such work reaches)
               + what each layer costs besides (launching it), + loading + writing

The shares are the machine's profile (`sorano plan calibrate` measures it); small clips reach less, which the cost per
layer stands for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from sorano.errors import CapacityError
from sorano.models.wan.config import MAX_TEXT_TOKENS
from sorano.models.wan.configs import ModelConfigs
from sorano.plan.machine import Machine
from sorano.plan.memory import MemoryNeeds, Placement, branches_together, choose, host_bytes
from sorano.shapes import Geometry, VideoShape, nearest_size

TEXT_TOKENS = 64  # a sentence; the exact number is known only to the tokenizer
MARKED_BYTES, WRITTEN_BYTES = 47.0, 6.6  # of a pixel of one frame, and of each frame's: docs/LOG.md, 2026-11-28
DECODE_LAUNCHES = 20  # what the decoder launches, in blocks of a transformer (decode.launches of constants.csv)


@dataclass(frozen=True)
class RunEstimate:
    """What a run should take. Compared with what it did take in the record of each file."""

    peak_bytes: int
    free_bytes: int | None
    text_seconds: float  # and what the first pass takes besides
    denoise_seconds: float
    decode_seconds: float
    write_seconds: float
    load_seconds: float
    denoise_flops: int
    decode_flops: int
    placement: Placement
    stage_bytes: dict[str, int]  # of text, state, denoise, decode and write, on the device
    largest_fit: str | None = None  # what would fit in words, where this does not
    least_bytes: int = 0  # of the smallest video, where none fits
    host_bytes: int = 0  # main memory, beside a device that has its own
    host_free_bytes: int | None = None

    def times(self, windows: int) -> RunEstimate:
        """The estimate of so many stretches one after the other, in the memory of one."""
        return replace(
            self,
            denoise_seconds=windows * self.denoise_seconds,
            decode_seconds=windows * self.decode_seconds,
            write_seconds=windows * self.write_seconds,
            denoise_flops=windows * self.denoise_flops,
            decode_flops=windows * self.decode_flops,
        )

    @property
    def seconds(self) -> float:
        """All of it."""
        stages = (self.load_seconds, self.text_seconds, self.denoise_seconds, self.decode_seconds)
        return sum(stages) + self.write_seconds

    @property
    def fits(self) -> bool:
        """Whether the free memory is enough; true where the system does not say."""
        return self.fits_host and (self.free_bytes is None or self.peak_bytes <= self.free_bytes)

    @property
    def fits_host(self) -> bool:
        """Whether the main memory beside the device is enough."""
        return self.host_free_bytes is None or self.host_bytes <= self.host_free_bytes

    def require(self) -> None:
        """Raises CapacityError, with what would fit, where the memory is not enough."""
        if not self.fits_host:
            raise CapacityError(
                f"it needs about {format_bytes(self.host_bytes)} of main memory beside the device, and "
                f"{format_bytes(self.host_free_bytes or 0)} is free",
                "free some, or give more of the device's with --memory",
            )
        if not self.fits:
            free = self.free_bytes or 0
            raise CapacityError(
                f"it needs about {format_bytes(self.peak_bytes)} of memory, and {format_bytes(free)} is free",
                f"this would fit: {self.largest_fit}"
                if self.largest_fit
                else f"its smallest video needs {format_bytes(self.least_bytes)}: free some, or use a smaller preset",
            )


def estimate_generate(
    configs: ModelConfigs,
    machine: Machine,
    shape: VideoShape,
    *,
    num_steps: int,
    guided: bool = True,
    fps: float = 12.0,
    upscale: float = 1,
    has_pictures: bool = False,
    is_written: bool = True,
    is_film: bool = False,
    bytes_per_weight: float | None = None,
) -> RunEstimate:
    """The cost of a video of this shape. `guided`: each step runs for the prompt and the negative prompt.

    One that `is_written` is marked, encoded and signed, `upscale` times larger each way. `bytes_per_weight` is for
    plans of weights that are stored in fewer bits than they compute in.
    """
    settings = (num_steps, 2 if guided else 1, upscale, has_pictures, is_written, is_film, bytes_per_weight)
    estimate = _estimate(configs, machine, shape, *settings)
    if estimate.fits:
        return estimate
    for smaller in _smaller(shape, configs.geometry):
        less = _estimate(configs, machine, smaller, *settings)
        if less.fits:
            words = f"--size {smaller.size} --seconds {smaller.num_frames / fps:.3g}"
            return replace(estimate, largest_fit=words)
    return replace(estimate, least_bytes=less.peak_bytes)


def output_bytes(shape: VideoShape, upscale: float, *, is_written: bool) -> int:
    """Main memory of the frames as the file has them: kept, marked, and what the coder looks ahead at."""
    pixels = shape.height * shape.width * upscale**2
    if not is_written:
        return round(3 * pixels * shape.num_frames)
    return round(pixels * (MARKED_BYTES + WRITTEN_BYTES * shape.num_frames))


def format_bytes(count: float) -> str:
    """Bytes as people read them: "450 MB", "1.4 GB"."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _estimate(
    configs: ModelConfigs,
    machine: Machine,
    shape: VideoShape,
    num_steps: int,
    branches: int,
    upscale: float,
    has_pictures: bool,
    is_written: bool,
    is_film: bool,
    bytes_per_weight: float | None,
) -> RunEstimate:
    transformer, vae, text = configs.transformer, configs.vae, configs.text_encoder
    latent = vae.geometry.latent(shape)
    tokens = min(TEXT_TOKENS, MAX_TEXT_TOKENS)
    images = configs.image_tokens
    parts = transformer.flops_by_part(latent, batch=branches, text_tokens=tokens, image_tokens=images)
    attention, linear = num_steps * parts.pop("attention"), num_steps * sum(parts.values())
    profile, rate = machine.profile, machine.flops_per_second
    decode_flops = vae.decode_flops(shape)
    layers = num_steps * transformer.num_layers
    per_layer = profile.seconds_per_layer
    weights = sum(network.weight_bytes(machine.bytes_per_value) for network in configs.networks())
    pixels = shape.num_frames * shape.height * shape.width
    sealing = profile.seal_bytes if is_written else 0
    held = output_bytes(shape, upscale, is_written=is_written)
    beside = profile.base_bytes + sealing + 3 * pixels if machine.on_cpu else 0
    together = branches if branches_together(latent, transformer.patch_size) else 1
    job = MemoryNeeds(
        shape, together, tokens, images, has_pictures, bytes_per_weight, is_film, held if machine.on_cpu else 0
    )
    free = machine.free_bytes
    placement, stages = choose(configs, machine, job, None if free is None else free - beside)
    return RunEstimate(
        peak_bytes=beside + max(stages.values()),
        free_bytes=free,
        text_seconds=text.flops(tokens, batch=branches) / rate / profile.linear + profile.start_seconds,
        denoise_seconds=attention / rate / profile.attention + linear / rate / profile.linear + per_layer * layers,
        decode_seconds=decode_flops / rate / profile.decode + DECODE_LAUNCHES * per_layer,
        write_seconds=is_written * (pixels * upscale**2 / profile.write_pixels_per_second + profile.seal_seconds),
        load_seconds=profile.load_seconds + weights / profile.load_bytes_per_second,
        denoise_flops=attention + linear,
        decode_flops=decode_flops,
        placement=placement,
        stage_bytes=stages,
        host_bytes=0
        if machine.on_cpu
        else profile.base_bytes + sealing + held + host_bytes(configs, machine, placement),
        host_free_bytes=machine.host_free_bytes,
    )


def _smaller(shape: VideoShape, geometry: Geometry) -> Iterator[VideoShape]:
    """Shapes to offer instead: shorter ones first, then smaller ones."""
    for scale in (1.0, 0.75, 0.5, 0.35, 0.25, 0.125):
        width, height = nearest_size(round(shape.width * scale), round(shape.height * scale), geometry.pixel_grid)
        for latents in _fewer(geometry.latent_frames(shape.num_frames)):
            yield VideoShape(geometry.video_frames(latents), height, width)


def _fewer(latents: int) -> Iterator[int]:
    while latents >= 1:
        yield latents
        if latents == 1:
            return
        latents = max(1, latents * 3 // 4)
