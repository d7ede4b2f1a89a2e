"""How a run fits into memory: which weights are on the device at each stage, and how much is decoded at once.

The stages are text, state (what is given is encoded), denoise, decode and, where the file's frames share the device's
memory, write (beside decoding, where that comes in parts). The ladder goes from the fastest way of placing them to the
smallest, and the first rung that fits is taken:

| rung                     | on the device                                              | costs                  |
|--------------------------|------------------------------------------------------------|------------------------|
| all stay                 | every network; small clips are decoded whole               | nothing                |
| chunks                   | every network; one latent frame is decoded at a time       | a little time          |
| in turn                  | the networks of the stage, read from the disk for it       | reading them each run  |
| in turn, text on the CPU | not the text encoder (not where the CPU computes anyway)   | some seconds           |
| in turn, blocks visit    | two blocks of the transformer                              | copies, hidden by work |
| both                     | two blocks, no text encoder                                | both                   |
| ... and tiles            | a tile of the frame while decoding                         | overlaps decoded twice |
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from sorano.models.wan.configs import ModelConfigs
from sorano.plan.machine import Machine
from sorano.shapes import Geometry, LatentShape, VideoShape

CHUNK_PIXELS = 2_000_000  # decoded at once: small clips whole, which is faster; large ones in constant memory
TILES = (512, 256)  # pixels on a side
TOKENS_TOGETHER = 8192  # of a video up to which both branches of guidance run in one batch; more fill a device alone
WORKSPACE = 1.15  # kernels' scratch memory and fragmentation on a device; on a CPU `Profile.base_bytes` has them


@dataclass(frozen=True)
class Placement:
    """A rung of the ladder."""

    chunk: int  # latent frames decoded at once
    in_turn: bool = False  # each network is loaded for its stage and freed after it
    offload: bool = False  # the transformer's blocks visit the device one after the other
    text_on_host: bool = False  # the text encoder computes on the CPU
    tile: int | None = None  # pixels on a side of what is decoded at once; None: the whole frame

    @property
    def words(self) -> str:
        """The rung, as users are told: "networks in turn, blocks visit the device"."""
        parts = ["networks in turn" if self.in_turn else "all networks stay loaded"]
        parts += ["blocks visit the device"] if self.offload else []
        parts += ["text encoded on the CPU"] if self.text_on_host else []
        parts += [f"decoded in tiles of {self.tile} pixels"] if self.tile else []
        return ", ".join(parts)


@dataclass(frozen=True)
class MemoryNeeds:
    """What the memory of a run depends on, beside the networks."""

    shape: VideoShape
    branches: int  # run in one batch: 2 with guidance, where they run together
    text_tokens: int
    image_tokens: int = 0
    has_pictures: bool = False  # something given is encoded
    bytes_per_weight: float | None = None  # None: as many as an activation has
    is_film: bool = False  # decoded as a stream, which knows no tiles
    written_bytes: int = 0  # of the frames on their way into the file, where that takes the device's memory


def decode_chunk(shape: VideoShape, geometry: Geometry) -> int:
    """How many latent frames are decoded at once: all of a small clip, one by one of a large one."""
    latents = geometry.latent_frames(shape.num_frames)
    return max(1, min(latents, CHUNK_PIXELS // (geometry.temporal * shape.height * shape.width)))


def branches_together(latent: LatentShape, patch: tuple[int, int, int]) -> bool:
    """Whether guidance runs the prompt and the negative prompt in one batch: faster for small videos only."""
    return latent.tokens(patch) <= TOKENS_TOGETHER


def ladder(shape: VideoShape, geometry: Geometry, *, on_cpu: bool) -> Iterator[Placement]:
    """The rungs, from the fastest to the smallest."""
    resident = Placement(decode_chunk(shape, geometry))
    yield resident
    if resident.chunk > 1:
        yield Placement(1)
    in_turn = Placement(1, in_turn=True)
    yield in_turn
    if not on_cpu:  # there the host's memory is the device's
        yield replace(in_turn, text_on_host=True)  # beside a small transformer, the text encoder is the largest
        yield replace(in_turn, offload=True)
        in_turn = replace(in_turn, offload=True, text_on_host=True)
        yield in_turn
    for tile in TILES:
        if tile < min(shape.height, shape.width):
            yield replace(in_turn, tile=tile)


def stage_bytes(configs: ModelConfigs, machine: Machine, job: MemoryNeeds, placement: Placement) -> dict[str, int]:
    """The peak of each stage on the device, without what Python and torch take themselves."""
    size = machine.bytes_per_value
    stored = job.bytes_per_weight or size
    latent = configs.vae.geometry.latent(job.shape)
    text, vae, eyes = configs.text_encoder, configs.vae, configs.image_encoder
    everything = sum(round(network.parameters() * stored) for network in configs.networks())

    def held(own: int) -> int:
        return own if placement.in_turn else everything

    def working(peak_bytes: int) -> int:
        return peak_bytes if machine.on_cpu else round(WORKSPACE * peak_bytes)

    remembered = 0
    comes_in_parts = placement.chunk < latent.num_frames or placement.tile is not None
    if comes_in_parts:
        remembered = vae.state_bytes(_at_once(job.shape, placement, configs.geometry), bytes_per_value=size)
    stages = {
        "text": 0
        if placement.text_on_host
        else held(round(text.parameters() * stored))
        + working(text.peak_bytes(job.text_tokens, batch=job.branches, bytes_per_value=size)),
        "denoise": held(_transformer_bytes(configs, stored, placement.offload))
        + working(
            configs.transformer.peak_bytes(
                latent, batch=job.branches, text_tokens=job.text_tokens + job.image_tokens, bytes_per_value=size
            )
        ),
        "decode": held(round(vae.parameters() * stored))
        + working(vae.peak_bytes(_at_once(job.shape, placement, configs.geometry), bytes_per_value=size) + remembered)
        + comes_in_parts * job.written_bytes,
    }
    if job.written_bytes:
        stages["write"] = held(round(vae.parameters() * stored)) + job.written_bytes
    if job.has_pictures:
        own = round(stored * (vae.parameters() + (eyes.parameters() if eyes else 0)))
        chunk = replace(placement, chunk=decode_chunk(job.shape, configs.geometry), tile=None)
        stages["state"] = held(own) + working(
            vae.encode_peak_bytes(_at_once(job.shape, chunk, configs.geometry), bytes_per_value=size)
        )
    return stages


def host_bytes(configs: ModelConfigs, machine: Machine, placement: Placement) -> int:
    """Main memory that a placement takes beside the device: what visits it, and what computes on the CPU."""
    size = machine.bytes_per_value
    visiting = round(size * configs.transformer.parameters()) if placement.offload else 0
    return max(visiting, round(size * configs.text_encoder.parameters()) if placement.text_on_host else 0)


def choose(
    configs: ModelConfigs, machine: Machine, job: MemoryNeeds, free_bytes: int | None
) -> tuple[Placement, dict[str, int]]:
    """The first rung whose widest stage fits into `free_bytes`, or the last; and its stages."""
    for placement in ladder(job.shape, configs.geometry, on_cpu=machine.on_cpu):
        if placement.tile is not None and job.is_film:
            break
        chosen = placement
        stages = stage_bytes(configs, machine, job, placement)
        if free_bytes is None or max(stages.values()) <= free_bytes:
            break
    return chosen, stages


def _transformer_bytes(configs: ModelConfigs, size: float, offload: bool) -> int:
    """The widest moment of one expert: whole, or its outer layers and two blocks."""
    transformer = configs.transformer
    if not offload:
        return round(size * transformer.parameters())
    block = transformer.block_parameters()
    return round(size * (transformer.parameters() - (transformer.num_layers - 2) * block))


def _at_once(shape: VideoShape, placement: Placement, geometry: Geometry) -> VideoShape:
    """The video that the autoencoder holds at once, with the frames that it remembers."""
    frames = min(shape.num_frames, geometry.video_frames(placement.chunk + 1))
    if placement.chunk >= geometry.latent_frames(shape.num_frames):
        frames = shape.num_frames
    if placement.tile is None:
        return VideoShape(frames, shape.height, shape.width)
    return VideoShape(frames, min(shape.height, placement.tile), min(shape.width, placement.tile))
