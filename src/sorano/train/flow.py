"""Learning the velocity field: flow matching on latents, for every way in which a user may give part of the video.

A step draws a kind of *known* latents. Known tokens enter clean (or with a little noise), with their own timestep, and
carry no loss; the rest is noised, and the network predicts noise - data (Lipman et al., arXiv:2210.02747, the straight
path). Temporal positions are relative to the window. The kinds, for a window of T latent frames:

| kind     | window                 | known                                                                        |
|----------|------------------------|------------------------------------------------------------------------------|
| none     | starts the clip        | nothing (text to video; T = 1 is an image)                                   |
| first    | starts the clip        | latent 0, which codes the first frame alone                                  |
| prefix   | starts the clip        | latents 0 .. k-1                                                             |
| middle   | cut out of a longer one| latents 0 .. k-1, all of them coding four frames that depend on an unseen past|
| suffix   | either                 | the last k latents                                                           |
| keyframe | starts the clip        | one or two frames encoded alone, appended as latent frames of their own at   |
|          |                        | position frame / 4 (fractional between latents); in half of them latent 0 too|
| region   | starts the clip        | a box of tokens, or all but a box, through all T                             |
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from sorano import threads
from sorano.files import atomic
from sorano.models.wan.text_encoder import TextEncoder, Tokenizer
from sorano.models.wan.transformer import VideoTransformer
from sorano.models.wan.vae import VideoAutoencoder
from sorano.shapes import Geometry
from sorano.train.autoencoder import to_frames, to_video
from sorano.train.clips import ClipStore
from sorano.train.loop import Batch, Log, write_text
from sorano.train.truth import Truth, TruthHeads, truth_of

KINDS = {  # how often each kind of known latents is drawn
    "none": 0.74,  # only here is all that can be seen to be learned from the caption
    "first": 0.07,
    "prefix": 0.03,
    "middle": 0.05,
    "suffix": 0.03,
    "keyframe": 0.05,
    "region": 0.03,
}
VERB_KINDS = {  # the same for a last stage, which learns what the verbs ask of it
    "none": 0.48,
    "first": 0.05,
    "prefix": 0.06,
    "middle": 0.1,
    "suffix": 0.08,
    "bridge": 0.12,
    "keyframe": 0.08,
    "region": 0.03,
}


class FlowModel(nn.Module):
    """The two networks that learn together, and the heads that read the truth from the transformer's middle."""

    def __init__(
        self, transformer: VideoTransformer, text_encoder: TextEncoder, heads: TruthHeads | None = None
    ) -> None:
        super().__init__()
        self.transformer = transformer
        self.text_encoder = text_encoder
        self.heads = heads  # last, so that a checkpoint's numbering of the others is the same without them


@dataclass(frozen=True)
class LatentStore:
    """Every clip as normalised latents, some of its frames encoded alone, and what the world knows of it."""

    latents_NCTHW: Tensor  # float16
    alone_NKCHW: Tensor  # float16
    alone_frames_NK: Tensor  # which frames those are
    geometry: Geometry  # of the autoencoder
    truth: Truth | None = None

    def __len__(self) -> int:
        return self.latents_NCTHW.shape[0]


@dataclass(frozen=True, kw_only=True)
class TrainingWindow:
    """What a step trains on, beside its noise."""

    kind: str
    latents_BCTHW: Tensor  # keyframes appended to the window
    known_BTHW: Tensor  # bool, on the grid of tokens
    positions_BT: Tensor | None
    truth: Truth | None = None  # of the window without the keyframes


Feed = Callable[[int], "tuple[LatentStore, list[list[str]]] | None"]
"""The clips to learn from at a step, where there are more than before."""


class FlowTask:
    """Batches of windows with captions."""

    name = "flow"

    def __init__(
        self,
        model: FlowModel,
        tokenizer: Tokenizer,
        store: LatentStore,
        captions: list[list[str]],
        vae: VideoAutoencoder,
        *,
        batch_size: int,
        dtype: torch.dtype,
        num_latents: int = 5,
        caption_dropout: float = 0.1,
        word_dropout: float = 0.1,
        sigma_mean: float = 0.8,
        known_noise: float = 0.1,
        kinds: Mapping[str, float] = KINDS,
        prompts: tuple[str, ...] = (),
        shift: float = 1.5,
        guidance: float = 3.0,
        read_block: int = 4,
        read_weight: float = 0.1,
        read_until: float = 2 / 3,
        feed: Feed | None = None,
    ) -> None:
        self.model, self.tokenizer, self.vae = model, tokenizer, vae
        self.batch_size, self.dtype, self.num_latents = batch_size, dtype, num_latents
        self.caption_dropout, self.word_dropout = caption_dropout, word_dropout
        self.sigma_mean, self.known_noise = sigma_mean, known_noise
        self.kinds = kinds
        self.prompts, self.shift, self.guidance = prompts, shift, guidance
        self.read_block, self.read_weight, self.read_until = read_block, read_weight, read_until
        self.reads = model.heads is not None
        self.feed = feed
        self.device = next(model.parameters()).device
        self.ids: list[list[list[int]]] = []
        self._take(store, captions)
        self.empty = tokenizer.encode([""])[0]
        self.unknown = tokenizer.encode(["\N{SNOWMAN}"])[0][0]

    def _take(self, store: LatentStore, captions: list[list[str]]) -> None:
        self.store = store
        self.ids += [self.tokenizer.encode(texts) for texts in captions[len(self.ids) : len(store)]]

    def begin_step(self, step: int, num_steps: int) -> None:
        """Takes clips that have been added, and lets go of the heads once they have done their part."""
        self.reads = self.model.heads is not None and step < self.read_until * num_steps
        more = self.feed(step) if self.feed is not None else None
        if more is not None:
            self._take(*more)

    def batch(self, generator: torch.Generator) -> Batch:
        clips = torch.randint(len(self.store), (self.batch_size,), generator=generator)
        window = draw_window(self.store, clips, self.num_latents, generator, self.kinds)
        dropped = (torch.rand(len(clips), generator=generator) < self.caption_dropout).tolist()
        picks = torch.randint(1 << 30, (len(clips),), generator=generator).tolist()
        ids = [
            self.empty if drop else self.ids[clip][pick % len(self.ids[clip])]
            for clip, drop, pick in zip(clips.tolist(), dropped, picks, strict=True)
        ]
        if float(torch.rand((), generator=generator)) < 0.2:  # so that a word it does not know says nothing
            ids = [self._with_unknown_words(one, generator) for one in ids]
        return {"window": window, "ids": ids}

    def _with_unknown_words(self, ids: list[int], generator: torch.Generator) -> list[int]:
        unknown = (torch.rand(len(ids), generator=generator) < self.word_dropout).tolist()
        return [self.unknown if gone and one not in self.empty else one for one, gone in zip(ids, unknown, strict=True)]

    def loss(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        window: TrainingWindow = batch["window"]
        data = window.latents_BCTHW.to(self.device).float()
        b, _, t, h, w = data.shape
        sigma = torch.sigmoid(torch.randn(b, generator=generator) + self.sigma_mean).to(self.device)
        noise = torch.randn(data.shape, generator=generator).to(self.device)
        known = window.known_BTHW.to(self.device)
        unknown_BCTHW = ~to_latent_grid(known, h, w)
        # one batch in four gives its known latents a little noise, and says how much, so that drift can be forgiven
        slight = torch.rand(b, generator=generator) * self.known_noise * (torch.rand((), generator=generator) < 0.25)
        slight = slight.to(self.device)
        per_latent = torch.where(unknown_BCTHW, _column(sigma), _column(slight))
        noisy = (1 - per_latent) * data + per_latent * noise
        timesteps_BU = 1000 * torch.stack([sigma, slight], 1)
        index_BL: Tensor | None = known.flatten(1).long()
        if window.kind == "none":
            timesteps_BU, index_BL = timesteps_BU[:, :1], None

        text = self.model.text_encoder.encode(batch["ids"], dtype=self.dtype)
        middle: list[Tensor] = []  # tokens after the block that is read
        block = self.model.transformer.blocks[self.read_block]
        hook = block.register_forward_hook(lambda module, given, tokens_BLD: middle.append(tokens_BLD))
        velocity = self.model.transformer(
            noisy.to(self.dtype), timesteps_BU, text, timestep_index_BL=index_BL, positions_T=window.positions_BT
        )
        hook.remove()
        squares = (velocity.float() - (noise - data)).square() * unknown_BCTHW
        loss = squares.sum() / (unknown_BCTHW.sum() * data.shape[1]).clamp_min(1)
        if not self.reads or window.truth is None or self.model.heads is None:
            return loss, {}
        length = window.truth.turn_NT2.shape[1] * known[0, 0].numel()
        reading, numbers = self.model.heads.loss(middle[0][:, :length], window.truth, self.dtype)
        return loss + self.read_weight * reading, {"flow": loss.detach(), "reading": reading.detach(), **numbers}

    def sheet(self, model: nn.Module) -> np.ndarray | None:
        """One row of frames for each of the prompts, the same seeds every time."""
        if not self.prompts:
            return None
        assert isinstance(model, FlowModel)
        frames = self._sample(model)
        columns = np.linspace(0, frames.shape[1] - 1, 5).round().astype(int)
        rows = [np.concatenate([clip[c] for c in columns], axis=1) for clip in frames]
        half = (len(rows) + 1) // 2
        rows += [np.zeros_like(rows[0])] * (2 * half - len(rows))
        return np.concatenate([np.concatenate(rows[:half]), np.concatenate(rows[half:])], axis=1)

    def _sample(self, model: FlowModel) -> np.ndarray:
        """frames_BTHWC of the prompts, quickly."""
        from sorano.sampling.denoise import denoise
        from sorano.sampling.schedule import unipc_schedule

        _, channels, _, rows, columns = self.store.latents_NCTHW.shape
        shape = (len(self.prompts), channels, self.num_latents, rows, columns)
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(self.device)
        text = model.text_encoder.encode(self.tokenizer.encode(list(self.prompts)), dtype=self.dtype)
        empty = model.text_encoder.encode([self.empty], dtype=self.dtype)
        steps = denoise(
            model.transformer, noise, text, unipc_schedule(16, self.shift), negative_text=empty,
            guidance=self.guidance, dtype=self.dtype,
        )  # fmt: skip
        latent = [step.latent for step in steps][-1]
        return to_frames(self.vae.decode(latent.to(self.dtype)))


def draw_window(
    store: LatentStore,
    clips: Tensor,
    num_latents: int,
    generator: torch.Generator,
    shares: Mapping[str, float] = KINDS,
) -> TrainingWindow:
    """A window of each clip, with a kind of known latents drawn for the whole batch."""
    kinds, weights = list(shares), torch.tensor(list(shares.values()))
    kind = kinds[int(torch.multinomial(weights, 1, generator=generator))]
    longest = store.latents_NCTHW.shape[2]

    def draw(low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return low + int(torch.randint(high - low + 1, (), generator=generator))

    t = min(num_latents, longest)
    chance = float(torch.rand((), generator=generator))
    if kind == "none":  # mostly the default length, sometimes all there is, sometimes short, sometimes one image
        t = longest if chance < 0.12 else draw(2, t) if chance < 0.17 else 1 if chance < 0.22 else t
    elif kind == "bridge":
        t = draw(t, longest)
    elif chance < 0.15:
        t = longest - 1 if kind == "middle" else longest
    if kind == "middle":
        t = min(t, longest - 1)
    start = draw(1, longest - t) if kind == "middle" else draw(0, longest - t) if kind in ("suffix", "bridge") else 0
    latents = store.latents_NCTHW[clips, :, start : start + t]
    b, _, _, h, w = latents.shape
    known = torch.zeros(b, t, h // 2, w // 2, dtype=torch.bool)
    positions = None
    truth = None if store.truth is None else store.truth.window(clips, start, t)
    if kind == "first":
        known[:, 0] = True
    elif kind == "prefix":
        known[:, : draw(2, t - 1)] = True
    elif kind == "middle":
        known[:, : draw(1, t - 2)] = True
    elif kind == "suffix":
        known[:, t - draw(1, t - 2) :] = True
    elif kind == "bridge":
        known[:, : draw(1, 2)] = True
        known[:, t - draw(1, 2) :] = True
    elif kind == "region":
        top, left = draw(0, h // 2 - 1), draw(0, w // 2 - 1)
        bottom = draw(top + 1, h // 2)
        right = draw(left + 1, w // 2 - (bottom - top == h // 2 and left == 0))  # never all of it
        known[:, :, top:bottom, left:right] = True
        if chance > 0.6:
            known = ~known
    elif kind == "keyframe":
        latents, known, positions = _append_keyframes(store, clips, latents, known, draw, generator)
    return TrainingWindow(kind=kind, latents_BCTHW=latents, known_BTHW=known, positions_BT=positions, truth=truth)


def _append_keyframes(
    store: LatentStore,
    clips: Tensor,
    latents: Tensor,
    known: Tensor,
    draw: Callable[[int, int], int],
    generator: torch.Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """One or two frames of the window, encoded alone, as known latent frames after the window's own."""
    b, _, t, _, _ = latents.shape
    frames_BK = store.alone_frames_NK[clips]
    inside = frames_BK < store.geometry.video_frames(t)
    # the window's last frame is what users give most often, so half of the batches get it (it is always encoded)
    wants_last = draw(0, 1) == 1
    is_last = frames_BK == store.geometry.video_frames(t) - 1
    scores = torch.rand(frames_BK.shape, generator=generator) + 10 * (is_last & wants_last)
    order = (scores - 100 * ~inside).argsort(1, descending=True)[:, : draw(1, 2)]
    rows = torch.arange(b)[:, None]
    alone = store.alone_NKCHW[clips[:, None], order].transpose(1, 2)  # [B, C, n, H, W]
    if draw(0, 1):
        known[:, 0] = True
    extra = torch.ones(b, order.shape[1], *known.shape[2:], dtype=torch.bool)
    positions = torch.cat(
        [torch.arange(t).expand(b, t).double(), frames_BK[rows, order].double() / store.geometry.temporal], dim=1
    )
    return torch.cat([latents, alone], dim=2), torch.cat([known, extra], dim=1), positions


def to_latent_grid(known_BThw: Tensor, rows: int, columns: int) -> Tensor:
    """A mask on the grid of tokens, [B, T, h, w], as one on the grid of latents, [B, 1, T, H, W]."""
    by_rows = known_BThw.repeat_interleave(rows // known_BThw.shape[2], dim=2)
    return by_rows.repeat_interleave(columns // known_BThw.shape[3], dim=3)[:, None]


class Latents:
    """Clips as latents in a folder, `shard` clips to a file; more are encoded as more are asked for.

    `statistics.json` has the mean and standard deviation of each channel over the clips that were there first; what
    comes later is normalised by the same.
    """

    def __init__(
        self,
        folder: Path,
        vae: VideoAutoencoder,
        store: ClipStore,
        *,
        num_frames: int,
        dtype: torch.dtype,
        log: Log,
        shard: int = 250,
        batch: int = 10,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.vae, self.store, self.num_frames, self.dtype = folder, vae, store, num_frames, dtype
        self.log, self.shard, self.batch = log, shard, batch
        self._parts: list[LatentStore] = []

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def load(self, num_clips: int) -> LatentStore:
        """The first `num_clips` clips (of whole files), encoded where they are not; the clips must be rendered."""
        from safetensors.torch import load_file, save_file

        last, geometry = self.store.spec.num_clips, self.vae.config.geometry
        while (start := len(self)) < num_clips:
            stop = min(start + self.shard, last)
            path = self.folder / f"{start:06d}.safetensors"
            if not path.exists():
                self.log(f"encoding clips {start} to {stop - 1}")
                with atomic(path) as temporary:
                    save_file(self._encode(range(start, stop)), temporary)
            tensors = load_file(path)
            self._parts.append(
                LatentStore(
                    tensors.pop("latents"),
                    tensors.pop("alone"),
                    tensors.pop("alone_frames"),
                    geometry,
                    Truth(**tensors),
                )
            )
        self._set_statistics()
        parts = self._parts
        return LatentStore(
            torch.cat([self.vae.normalise(part.latents_NCTHW.float()).half() for part in parts]),
            torch.cat(
                [self.vae.normalise(part.alone_NKCHW.float().transpose(1, 2)).transpose(1, 2).half() for part in parts]
            ),
            torch.cat([part.alone_frames_NK for part in parts]),
            geometry,
            Truth.joined([part.truth for part in parts if part.truth is not None]),
        )

    def _set_statistics(self) -> None:
        path = self.folder / "statistics.json"
        if not path.exists():
            values = torch.cat([part.latents_NCTHW for part in self._parts]).float().transpose(0, 1).flatten(1)
            write_text(path, json.dumps({"mean": values.mean(1).tolist(), "std": values.std(1).tolist()}))
        found = json.loads(path.read_text())
        self.vae.set_latent_statistics(found["mean"], found["std"])

    @torch.no_grad()
    def _encode(self, clips: range) -> dict[str, Tensor]:
        from sorano.world.dataset import lay

        store, vae, spec = self.store, self.vae, self.store.spec
        device = next(vae.parameters()).device
        frames_NK = alone_frames(len(clips), spec.num_frames, self.num_frames, seed=clips.start)
        means, alone, truths = [], [], []
        for start in range(0, len(clips), self.batch):
            threads.adapt()
            some = slice(clips.start + start, min(clips.start + start + self.batch, clips.stop))
            frames = torch.from_numpy(np.ascontiguousarray(store.frames_NTHWC[some])).to(device)
            means.append(vae.encode(to_video(frames).to(self.dtype))[0].half().cpu())
            rows = torch.arange(len(frames))[:, None]
            picked = frames[rows, frames_NK[start : start + len(frames)]]  # [B, K, H, W, 3]
            singles = to_video(picked.flatten(0, 1)[:, None]).to(self.dtype)
            alone.append(vae.encode(singles)[0][:, :, 0].unflatten(0, (len(frames), -1)).half().cpu())
        spatial, temporal = vae.config.scale_factor_spatial, vae.config.scale_factor_temporal
        for clip in clips:
            laid = lay(
                spec.split, clip, world=spec.world, num_frames=spec.num_frames, height=spec.height, width=spec.width,
                fps=spec.fps,
            )  # fmt: skip
            truths.append(truth_of(laid, np.asarray(store.masks_NTHW[clip]), spec.fps, spatial, temporal))
        tensors = {"latents": torch.cat(means), "alone": torch.cat(alone), "alone_frames": frames_NK}
        return tensors | Truth.joined(truths).to_dict()


def alone_frames(num_clips: int, clip_frames: int, num_frames: int, seed: int = 0) -> Tensor:
    """Which frames of each clip are encoded alone: the last of the usual window and of the clip, and two at random.

    Where those two are one, three at random.
    """
    last = clip_frames - 1
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(1, last + 1, (num_clips, 3), generator=generator)
    drawn[:, 0] = (drawn[:, 0] + 1) // 2  # one of them in the first half
    if num_frames - 1 < last:
        drawn[:, 2] = num_frames - 1
    return torch.cat([torch.full((num_clips, 1), last), drawn], dim=1)


def _column(values_B: Tensor) -> Tensor:
    return values_B.view(-1, 1, 1, 1, 1)
