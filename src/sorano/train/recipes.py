"""Training the world model from nothing: render, autoencoder on frames, then on clips, encode, read, flow, export.

Every stage has its own folder under the run's, keeps checkpoints there, and is skipped once it is done; a run that was
killed goes on where it was. `describe` prints everything that follows from a recipe without computing any of it.

The run imports torch, numpy, numba, safetensors and tokenizers only, so that it works on a machine with no more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sorano.errors import RequestError
from sorano.models.wan.config import TextEncoderConfig, TransformerConfig, VaeConfig
from sorano.shapes import VideoShape

if TYPE_CHECKING:
    import torch

    from sorano.models.checkpoint import Bundle
    from sorano.models.wan.text_encoder import Tokenizer
    from sorano.models.wan.vae import VideoAutoencoder
    from sorano.train.clips import ClipStore
    from sorano.train.flow import FlowModel, FlowTask, LatentStore
    from sorano.train.loop import LoopConfig, Task
    from sorano.train.ranks import Ranks

Log = Callable[[str], None]

SHEET_PROMPTS = (
    "a red ball bounces on the grass at sunset",
    "a large blue cube spins on the snow at night",
    "a yellow cone rolls right on the stone at dawn",
    "a small green cylinder jumps on the sand at noon, the camera zooms in",
    "a white ball falls on the grass at sunset, the camera pans left",
    "a purple cube stays still left of an orange ball that bounces on the snow at noon",
    "a purple capsule rises on the stone at noon",
    "中午，一个黑色的圆环在沙地上向左滚动",
)


MIXED_KINDS = {  # of known latents, where all that the verbs ask is learned from the start
    "none": 0.64,
    "first": 0.07,
    "prefix": 0.05,
    "middle": 0.06,
    "suffix": 0.05,
    "bridge": 0.05,
    "keyframe": 0.05,
    "region": 0.03,
}


@dataclass(frozen=True, kw_only=True)
class StageRecipe:
    """One run of the training loop."""

    num_steps: int
    batch_size: int
    learning_rate: float
    num_frames: int = 1  # of each sample; the flow model's usual window
    decay_fraction: float = 1.0
    ema_decay: float = 0.998
    save_every: int = 200
    sheet_every: int = 500
    keep: tuple[int, ...] = ()  # steps whose averaged weights are kept beside the checkpoint


NO_STAGE = StageRecipe(num_steps=0, batch_size=0, learning_rate=0.0)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What to train, on what, for how long. Sizes of networks follow the machine the recipe is for."""

    name: str
    world: str
    num_clips: int
    clip_frames: int
    size: int  # pixels, square
    fps: float
    num_frames: int  # of a usual sample
    vae: VaeConfig
    transformer: TransformerConfig
    text_encoder: TextEncoderConfig
    frames: StageRecipe
    clips: StageRecipe
    reading: StageRecipe
    flow: StageRecipe
    verbs: StageRecipe  # the same model, with more of what is known of a video
    decoder: StageRecipe | None = None  # the decoder alone, at the end
    start_clips: int | None = None  # how many are rendered before training begins; the autoencoder learns from these
    clips_per_step: float = 0.0  # how many more for each step of the flow model, up to num_clips
    shard: int = 250  # clips rendered and encoded at a time
    kinds: Mapping[str, float] | None = None  # how often each kind of known latents is drawn; None: flow.KINDS
    kl_weight: float | None = None  # of the autoencoder's loss; None: its own
    fresh_transformer: bool = False  # whether it begins from noise, whatever the run does
    fresh_text: bool = False  # whether the text encoder does, and learns to read without regard to an old one
    fresh: float = 0.0  # of a grown encoder's first layer (`sorano.train.grow`)
    read_truth: bool = False  # whether a middle block learns to name what the world knows (sorano.train.truth)
    shift: float = 1.5
    guidance: float = 4.5
    num_steps: int = 12


def _vae(base_dim: int, decoder_base_dim: int, patch_size: int = 2, z_dim: int = 16) -> VaeConfig:
    """Wan 2.2's residual kind: pixels in patches, two halvings of space, two of time. 8x8x4 with patches of two."""
    return VaeConfig(
        base_dim=base_dim, decoder_base_dim=decoder_base_dim, dim_mult=(1, 2, 2), num_res_blocks=1,
        temperal_downsample=(True, True), is_residual=True, patch_size=patch_size, in_channels=3 * patch_size**2,
        out_channels=3 * patch_size**2, scale_factor_spatial=4 * patch_size, z_dim=z_dim,
        latents_mean=(0.0,) * z_dim, latents_std=(1.0,) * z_dim,
    )  # fmt: skip


def _transformer(
    width: int, heads: int, layers: int, ffn_dim: int, text_dim: int, channels: int = 16
) -> TransformerConfig:
    return TransformerConfig(
        num_attention_heads=heads, attention_head_dim=width // heads, num_layers=layers, ffn_dim=ffn_dim,
        text_dim=text_dim, in_channels=channels, out_channels=channels,
    )  # fmt: skip


def _text_encoder(width: int, heads: int, layers: int) -> TextEncoderConfig:
    return TextEncoderConfig(
        vocab_size=512, d_model=width, d_kv=width // heads, d_ff=2 * width, num_layers=layers, num_heads=heads,
    )  # fmt: skip


LONG = Recipe(
    name="long", world="core", num_clips=16000, clip_frames=25, size=128, fps=12.0, num_frames=25,
    start_clips=2500, clips_per_step=0.5, kinds=MIXED_KINDS, read_truth=True, fresh_text=True,
    vae=_vae(48, 64, patch_size=4),
    transformer=_transformer(192, 4, 8, 768, 192),
    text_encoder=_text_encoder(192, 4, 3),
    frames=NO_STAGE, clips=NO_STAGE,  # the latents are those that the weights to begin from know
    reading=StageRecipe(num_steps=600, batch_size=128, learning_rate=2e-3, decay_fraction=0.3),
    flow=StageRecipe(num_steps=40000, batch_size=32, learning_rate=1.5e-3, num_frames=25, decay_fraction=0.25,
               ema_decay=0.999),
    verbs=NO_STAGE,
)  # fmt: skip

RECIPES = {
    # two cores, under two hours; times are in docs/LOG.md
    "cpu": Recipe(
        name="cpu", world="core", num_clips=9000, clip_frames=25, size=64, fps=12.0, num_frames=17,
        vae=_vae(48, 64),
        transformer=_transformer(192, 4, 8, 768, 192),
        text_encoder=_text_encoder(192, 4, 2),
        frames=StageRecipe(num_steps=700, batch_size=32, learning_rate=2e-3, decay_fraction=0.5),
        clips=StageRecipe(num_steps=2200, batch_size=4, learning_rate=1.5e-3, num_frames=17, decay_fraction=0.8),
        reading=StageRecipe(num_steps=600, batch_size=256, learning_rate=2e-3, decay_fraction=0.3),
        flow=StageRecipe(num_steps=7000, batch_size=32, learning_rate=2.5e-3, num_frames=17, decay_fraction=0.6),
        verbs=StageRecipe(num_steps=2000, batch_size=32, learning_rate=1e-3, num_frames=17),
    ),
    # two cores for a night or more, in pieces: rates are held until a stage's last quarter, so that it can be extended
    "long": LONG,
    # the same with sixteen more channels to the latents, learned first, beside those of the weights to begin from
    "sharp": replace(
        LONG, name="sharp", fresh=0.5, kl_weight=1e-3, vae=_vae(48, 64, patch_size=4, z_dim=32),
        transformer=_transformer(192, 4, 8, 768, 192, channels=32),
        frames=StageRecipe(num_steps=3000, batch_size=24, learning_rate=1e-3, decay_fraction=0.1, ema_decay=0.995),
        clips=StageRecipe(num_steps=8000, batch_size=4, learning_rate=1e-3, num_frames=9, decay_fraction=0.4),
        decoder=StageRecipe(num_steps=4000, batch_size=4, learning_rate=5e-4, num_frames=9, save_every=50),
    ),
    # quality against compute (docs/quality.md): the flow model from nothing, on the autoencoder to begin from, its rate
    # held, so that the weights that are kept differ by their steps alone
    "curve": replace(
        LONG, name="curve", start_clips=1000, clips_per_step=0.8, fresh_transformer=True,
        reading=StageRecipe(num_steps=300, batch_size=128, learning_rate=2e-3, decay_fraction=0.3),
        flow=StageRecipe(num_steps=1600, batch_size=32, learning_rate=2e-3, num_frames=25, decay_fraction=0.0,
                   keep=(16, 50, 160, 500, 1600)),
    ),
    # a model at 64x64 made to draw at 128x128 from the same latents: only the decoder learns, and all else is kept
    "double": Recipe(
        name="double", world="core", num_clips=16000, clip_frames=25, size=128, fps=12.0, num_frames=25,
        start_clips=2500,  # all that it needs; the rest of the folder is the long recipe's
        vae=_vae(48, 64, patch_size=4),
        transformer=_transformer(192, 4, 8, 768, 192),
        text_encoder=_text_encoder(192, 4, 2),
        frames=NO_STAGE, clips=NO_STAGE, reading=NO_STAGE, flow=NO_STAGE, verbs=NO_STAGE,
        decoder=StageRecipe(num_steps=240, batch_size=4, learning_rate=1e-3, num_frames=9, decay_fraction=0.4,
                            ema_decay=0.98, save_every=20, sheet_every=60),
    ),
    # sized for one H100 or H200, and not run on one yet
    "gpu": Recipe(
        name="gpu", world="full", num_clips=12000, clip_frames=41, size=128, fps=12.0, num_frames=33,
        vae=_vae(64, 96),
        transformer=_transformer(384, 6, 12, 1536, 256),
        text_encoder=_text_encoder(256, 4, 3),
        frames=StageRecipe(num_steps=3000, batch_size=256, learning_rate=2e-3, ema_decay=0.999),
        clips=StageRecipe(num_steps=4000, batch_size=32, learning_rate=1e-3, num_frames=33, ema_decay=0.999),
        reading=StageRecipe(num_steps=1000, batch_size=512, learning_rate=2e-3),
        flow=StageRecipe(
            num_steps=12000, batch_size=128, learning_rate=1e-3, num_frames=33, decay_fraction=0.4, ema_decay=0.9995
        ),
        verbs=StageRecipe(num_steps=3000, batch_size=128, learning_rate=4e-4, num_frames=33, ema_decay=0.999),
    ),
    # seconds: what the tests run
    "smoke": Recipe(
        name="smoke", world="core", num_clips=8, clip_frames=25, size=32, fps=12.0, num_frames=17,
        start_clips=4, clips_per_step=1.0, shard=2, kinds=MIXED_KINDS, read_truth=True,
        vae=_vae(8, 8),
        transformer=_transformer(48, 2, 2, 64, 32),
        text_encoder=_text_encoder(32, 2, 1),
        frames=StageRecipe(num_steps=4, batch_size=2, learning_rate=1e-3),
        clips=StageRecipe(num_steps=4, batch_size=2, learning_rate=1e-3, num_frames=17),
        reading=StageRecipe(num_steps=4, batch_size=8, learning_rate=1e-3),
        flow=StageRecipe(num_steps=6, batch_size=2, learning_rate=1e-3, num_frames=17),
        verbs=StageRecipe(num_steps=4, batch_size=2, learning_rate=1e-3, num_frames=17),
        decoder=StageRecipe(num_steps=2, batch_size=2, learning_rate=1e-3, num_frames=5),
    ),
}  # fmt: skip


def find(name: str) -> Recipe:
    """The recipe of a name. Raises RequestError for others."""
    if name not in RECIPES:
        raise RequestError(f"unknown recipe {name!r}", f"choose one of {', '.join(RECIPES)}")
    return RECIPES[name]


def describe(recipe: Recipe) -> list[tuple[str, str, str]]:
    """Every derived value as (name, value, how it follows), without importing torch."""
    window = VideoShape(recipe.num_frames, recipe.size, recipe.size)
    spatial, temporal = recipe.vae.scale_factor_spatial, recipe.vae.scale_factor_temporal
    latent = recipe.vae.geometry.latent(window)

    def coding(stage: StageRecipe) -> int:
        shape = VideoShape(stage.num_frames, recipe.size, recipe.size)
        return recipe.vae.encode_flops(shape) + recipe.vae.decode_flops(shape)

    flow = flow_flops(recipe)
    reading = recipe.text_encoder.flops(20)
    forwards = {"frames": coding(recipe.frames), "clips": coding(recipe.clips), "reading": reading}
    forwards |= {"flow": flow, "verbs": flow}
    if recipe.decoder is not None:
        forwards["decoder"] = coding(recipe.decoder)
    pixels = recipe.num_clips * recipe.clip_frames * recipe.size**2
    rows = [
        ("clips", f"{recipe.num_clips}", f"{recipe.world} world, {recipe.clip_frames} frames at {recipe.fps:g} fps"),
        ("pixels on disk", f"{4 * pixels / 1e9:.1f} GB", "3 bytes of colour and 1 of mask each"),
        (
            "latent",
            f"{recipe.vae.z_dim}x{latent.num_frames}x{latent.rows}x{latent.columns}",
            f"{recipe.num_frames} frames, {spatial}x{spatial}x{temporal}",
        ),
        ("tokens", f"{latent.tokens(recipe.transformer.patch_size)}", "patches of 1 x 2 x 2 latents"),
        ("autoencoder", f"{recipe.vae.parameters() / 1e6:.2f} M parameters", ""),
        ("transformer", f"{recipe.transformer.parameters() / 1e6:.2f} M parameters", f"D = {recipe.transformer.width}"),
        ("text encoder", f"{recipe.text_encoder.parameters() / 1e6:.2f} M parameters", ""),
        ("weights on disk", f"{weight_bytes(recipe) / 1e6:.1f} MB", "float16, the text encoder float32"),
    ]
    total = 0.0
    for name, forward in forwards.items():
        stage: StageRecipe = getattr(recipe, name)
        if not stage.num_steps:
            continue
        step = 3 * forward * stage.batch_size
        total += step * stage.num_steps
        rows.append(
            (
                f"{name} stage",
                f"{stage.num_steps} steps of {stage.batch_size}, {step / 1e9:.0f} GFLOP a step",
                f"3 x forward; {stage.num_steps * stage.batch_size} samples; peak rate {stage.learning_rate:g}",
            )
        )
    rows.append(("training in all", f"{total / 1e15:.2f} PFLOP", "without rendering and encoding"))
    return rows


def flow_flops(recipe: Recipe) -> int:
    """FLOPs of a forward pass of the transformer and the text encoder for one sample; a step takes three of each."""
    latent = recipe.vae.geometry.latent(VideoShape(recipe.num_frames, recipe.size, recipe.size))
    return recipe.transformer.flops(latent, text_tokens=20) + recipe.text_encoder.flops(20)


def weight_bytes(recipe: Recipe) -> int:
    """Size of the exported weights."""
    halves = recipe.vae.parameters() + recipe.transformer.parameters()
    return 2 * halves + 4 * recipe.text_encoder.parameters()


def run(recipe: Recipe, folder: Path, *, init: Path | None = None, device: str = "auto", log: Log = print) -> Path:
    """Runs what of the recipe is not done yet; returns the diffusers folder of the trained model.

    `init`, a diffusers folder, gives the weights that a run begins from (`sorano.train.grow`) in place of noise.
    Started by torchrun, each process takes a share of every batch, and the first one writes and speaks.
    """
    from sorano.train.ranks import joined

    with joined(device) as (ranks, own_device):
        return _run(recipe, folder, init, own_device, log if ranks.is_first else lambda text: None, ranks)


def _run(recipe: Recipe, folder: Path, init: Path | None, device: str, log: Log, ranks: Ranks) -> Path:
    from sorano.models import checkpoint

    for stage in (recipe.frames, recipe.clips, recipe.reading, recipe.flow, recipe.verbs, recipe.decoder):
        ranks.share(stage.batch_size if stage is not None else 0)  # said before hours of rendering
    began = time.perf_counter()
    target, dtype = _prepare(recipe, device, log, ranks)
    with ranks.first():
        store = _clips(recipe, folder)
        store.render(log, count=recipe.start_clips)
    source = None if init is None else checkpoint.load(init, device=target)
    training = _Training(recipe, folder, target, dtype, log, ranks, store, source)
    vae = _train_autoencoder(training)
    tokenizer, model = _train_flow(training, vae)
    if recipe.decoder is not None:
        _train_decoder(training, vae, recipe.decoder)
    out = folder / "model"
    if ranks.is_first:
        export(recipe, model, vae, tokenizer, out)
    log(f"{out} after {(time.perf_counter() - began) / 60:.1f} minutes")
    return out


@dataclass(frozen=True)
class _Training:
    """What every stage of a run works with."""

    recipe: Recipe
    folder: Path
    device: torch.device
    dtype: torch.dtype  # of the matrix products
    log: Log
    ranks: Ranks
    store: ClipStore
    source: Bundle | None  # the model that the run begins from

    def run(self, task: Task, stage: StageRecipe, name: str | None = None) -> None:
        """Train what a task learns, in its own folder (or that of `name`), from its last checkpoint on."""
        from sorano.train.loop import train

        train(task, _loop(stage), self.folder / (name or task.name), self.log, self.ranks)


def _prepare(recipe: Recipe, device: str, log: Log, ranks: Ranks) -> tuple[torch.device, torch.dtype]:
    """The device and the dtype of a run, with the settings of torch that make it faster."""
    import torch

    from sorano.device import choose_machine
    from sorano.models.layers import fuse_norms
    from sorano.models.runtime import keep_freed_memory

    machine = choose_machine(device)
    log(machine.reason)
    log(keep_freed_memory())
    if recipe.name != "smoke":
        log(fuse_norms())
    if ranks.count > 1:
        log(f"{ranks.count} processes, each with its share of every batch")
    dtype = torch.bfloat16 if machine.dtype == "bfloat16" else torch.float32  # float16 would overflow in training
    return torch.device(machine.device), dtype


def _clips(recipe: Recipe, folder: Path) -> ClipStore:
    from sorano.train.clips import ClipSpec, ClipStore

    spec = ClipSpec(
        world=recipe.world, num_clips=recipe.num_clips, num_frames=recipe.clip_frames, height=recipe.size,
        width=recipe.size, fps=recipe.fps,
    )  # fmt: skip
    return ClipStore(folder / "clips", spec)


def _train_autoencoder(training: _Training) -> VideoAutoencoder:
    """The autoencoder, trained on frames and then on clips."""
    import torch

    from sorano.models.layers import fuse_norms
    from sorano.models.wan.vae import VideoAutoencoder
    from sorano.train.autoencoder import AutoencoderLoss, AutoencoderTask
    from sorano.train.grow import grow_autoencoder

    recipe, source = training.recipe, training.source
    torch.manual_seed(0)
    vae = VideoAutoencoder(recipe.vae).to(training.device)
    if source is not None:
        grow_autoencoder(vae, source.vae, fresh=recipe.fresh)
    elif not recipe.clips.num_steps:
        raise RequestError(f"the recipe {recipe.name} has nothing to begin from", "add --init world")
    loss = AutoencoderLoss() if recipe.kl_weight is None else AutoencoderLoss(kl_weight=recipe.kl_weight)
    for name, stage in (("frames", recipe.frames), ("clips", recipe.clips)):
        if not stage.num_steps:
            continue
        task = AutoencoderTask(
            f"autoencoder-{name}", vae, training.store, batch_size=training.ranks.share(stage.batch_size),
            num_frames=stage.num_frames, dtype=training.dtype, num_clips=recipe.start_clips,
            source=source.vae if source is not None else None, loss=loss,
        )  # fmt: skip
        training.run(task, stage)
    fuse_norms(False)
    return vae


def _train_flow(training: _Training, vae: VideoAutoencoder) -> tuple[Tokenizer, FlowModel]:
    """The text encoder, pretrained on captions, and then it and the transformer together, on latents of the clips."""
    from sorano.train.flow import VERB_KINDS
    from sorano.train.grow import grow_text_encoder, grow_transformer
    from sorano.train.text_pretraining import TextPretrainingTask

    recipe, source, ranks = training.recipe, training.source, training.ranks
    feed = _feed(training, vae)
    tokenizer, model = networks(recipe, training.device)
    if source is not None and not recipe.fresh_transformer:
        grow_transformer(model.transformer, source.transformer)
    if source is not None and not recipe.fresh_text:
        grow_text_encoder(model.text_encoder, source.text_encoder, tokenizer, source.tokenizer)
    if not recipe.flow.num_steps:
        return tokenizer, model
    start = feed(0)
    assert start is not None
    reading = TextPretrainingTask(
        model.text_encoder, tokenizer, training.store.captions[: recipe.start_clips],
        batch_size=ranks.share(recipe.reading.batch_size), dtype=training.dtype,
        source=source.text_encoder if source is not None and not recipe.fresh_text else None,
    )  # fmt: skip
    training.run(reading, recipe.reading)
    flow = flow_task(recipe, model, tokenizer, vae, *start, training.dtype)
    flow.batch_size, flow.feed = ranks.share(recipe.flow.batch_size), feed
    training.run(flow, recipe.flow, "flow")
    flow.kinds = VERB_KINDS
    flow.feed = lambda step: feed(recipe.flow.num_steps + step)
    training.run(flow, recipe.verbs, "verbs")
    return tokenizer, model


def _feed(training: _Training, vae: VideoAutoencoder) -> Callable[[int], tuple[LatentStore, list[list[str]]] | None]:
    """What gives the clips that are there from a step on, rendered and encoded where they are not; None for no more."""
    from sorano.train.flow import Latents

    recipe, store, ranks = training.recipe, training.store, training.ranks
    latents = Latents(
        training.folder / "latents", vae.requires_grad_(False), store, num_frames=recipe.num_frames,
        dtype=training.dtype, log=training.log, shard=recipe.shard,
    )  # fmt: skip

    def feed(step: int) -> tuple[LatentStore, list[list[str]]] | None:
        wanted = clips_at(recipe, step)
        if len(latents) >= wanted:
            return None
        with ranks.first():
            store.render(training.log, count=wanted)
            latents.load(wanted)
        if not ranks.is_first:
            store.read_captions()
        return latents.load(wanted), store.captions

    return feed


def _train_decoder(training: _Training, vae: VideoAutoencoder, stage: StageRecipe) -> None:
    """The decoder alone, longer."""
    from sorano.models.layers import fuse_norms
    from sorano.train.autoencoder import AutoencoderTask

    recipe = training.recipe
    fuse_norms(recipe.name != "smoke")
    task = AutoencoderTask(
        "decoder", vae, training.store, batch_size=training.ranks.share(stage.batch_size),
        num_frames=stage.num_frames, dtype=training.dtype, num_clips=recipe.start_clips, decoder_only=True,
    )  # fmt: skip
    training.run(task, stage)
    vae.requires_grad_(False)


def clips_at(recipe: Recipe, step: int) -> int:
    """How many clips the flow model learns from at a step: more and more, a whole file of them at a time."""
    more = int(step * recipe.clips_per_step) // recipe.shard * recipe.shard
    return min(recipe.num_clips, (recipe.start_clips or recipe.num_clips) + more)


def networks(recipe: Recipe, device: torch.device) -> tuple[Tokenizer, FlowModel]:
    """The tokenizer and the freshly initialised networks that learn together."""
    import torch

    from sorano.models.wan.text_encoder import TextEncoder, build_tokenizer
    from sorano.models.wan.transformer import VideoTransformer
    from sorano.train.flow import FlowModel
    from sorano.train.truth import TruthHeads
    from sorano.world.caption import words

    torch.manual_seed(1)
    transformer, text_encoder = VideoTransformer(recipe.transformer), TextEncoder(recipe.text_encoder)
    _, rows, columns = recipe.transformer.patch_size
    heads = TruthHeads(recipe.transformer.width, (rows, columns)) if recipe.read_truth else None
    return build_tokenizer(words(recipe.world)), FlowModel(transformer, text_encoder, heads).to(device)


def flow_task(
    recipe: Recipe,
    model: FlowModel,
    tokenizer: Tokenizer,
    vae: VideoAutoencoder,
    latents: LatentStore,
    captions: list[list[str]],
    dtype: torch.dtype,
) -> FlowTask:
    """The flow stage of a recipe."""
    from sorano.train.flow import KINDS, FlowTask

    return FlowTask(
        model, tokenizer, latents, captions, vae, batch_size=recipe.flow.batch_size, dtype=dtype,
        num_latents=recipe.vae.geometry.latent_frames(recipe.num_frames),
        prompts=SHEET_PROMPTS, shift=recipe.shift, guidance=recipe.guidance, kinds=recipe.kinds or KINDS,
        read_block=recipe.transformer.num_layers // 2,
    )  # fmt: skip


def bundle_of(recipe: Recipe, model: FlowModel, vae: VideoAutoencoder, tokenizer: Tokenizer) -> Bundle:
    """The trained networks as what generates."""
    from sorano.models import checkpoint
    from sorano.sampling.schedule import scheduler_config

    return checkpoint.Bundle(
        transformer=model.transformer, vae=vae, text_encoder=model.text_encoder, tokenizer=tokenizer,
        scheduler_config=scheduler_config(recipe.shift), expand_timesteps=True,
    )  # fmt: skip


def export(recipe: Recipe, model: FlowModel, vae: VideoAutoencoder, tokenizer: Tokenizer, folder: Path) -> Path:
    """Writes the trained networks as a diffusers folder, weights in float16."""
    import torch

    from sorano.models import checkpoint

    checkpoint.save(folder, bundle_of(recipe, model, vae, tokenizer), dtype=torch.float16)
    return folder


def _loop(stage: StageRecipe) -> LoopConfig:
    from sorano.train.loop import LoopConfig

    return LoopConfig(
        num_steps=stage.num_steps, learning_rate=stage.learning_rate, decay_fraction=stage.decay_fraction,
        ema_decay=stage.ema_decay, save_every=stage.save_every, sheet_every=stage.sheet_every, keep=stage.keep,
    )  # fmt: skip
