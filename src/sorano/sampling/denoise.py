"""From noise to a latent, one `Step` at a time; what is known of the video is given to the network, never solved for.

Axes: B batch, C channels, T latent frames, H latent rows, W latent columns, L video tokens, U distinct timesteps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sorano.errors import NumericsError
from sorano.models.wan.text_encoder import TextTokens
from sorano.models.wan.transformer import PreparedText, TokenTimes, VideoTransformer
from sorano.sampling.guidance import classifier_free, classifier_free_apart
from sorano.sampling.schedule import NUM_TRAIN_TIMESTEPS, Schedule
from sorano.sampling.solver import Solver, Velocity, unipc


@dataclass(frozen=True)
class Step:
    """One step of `denoise` is done: `index` counts from 1 to `num_steps`, `sigma` is the noise that is left."""

    index: int
    num_steps: int
    sigma: float
    latent: Tensor  # [B, C, T, H, W] float32, the known parts in place


@dataclass(frozen=True)
class ConditioningLatents:
    """The known part of a latent: where `mask_BTHW` is true the network sees `latent_BCTHW`, with timestep 0.

    `noise` is the share of noise that is in it, which the timestep then says: what is known need not be exact. The mask
    is constant over each token's patch. A batch that guidance has doubled is served twice.
    """

    latent_BCTHW: Tensor
    mask_BTHW: Tensor
    noise: float = 0.0

    def put_into(self, x_BCTHW: Tensor) -> Tensor:
        """`x` with the known parts in place."""
        known = _repeat(self.latent_BCTHW, x_BCTHW).to(x_BCTHW.dtype)
        return torch.where(_repeat(self.mask_BTHW, x_BCTHW)[:, None], known, x_BCTHW)

    def timestep_index(self, x_BCTHW: Tensor, patch_size: tuple[int, int, int]) -> Tensor:
        """For every token [B, L], 0 if it is to be made and 1 if it is known."""
        t, h, w = patch_size
        mask_BTHW = _repeat(self.mask_BTHW, x_BCTHW)
        tokens = mask_BTHW[:, ::t, ::h, ::w]
        if not torch.equal(tokens.repeat_interleave(t, 1).repeat_interleave(h, 2).repeat_interleave(w, 3), mask_BTHW):
            raise ValueError(f"the mask of what is known must be constant over patches of {patch_size}")
        return tokens.flatten(1).long()


@dataclass(frozen=True)
class LowNoise:
    """A second network that takes over once the timestep is below `boundary` (Wan 2.2 A14B's two experts)."""

    transformer: VideoTransformer
    boundary: float  # of the 1000 timesteps, as a share: 0.875
    guidance: float
    begin: Callable[[], None] = lambda: None  # called before its first step: time to change what is in memory


def _repeat(tensor: Tensor, x: Tensor) -> Tensor:
    repeats = x.shape[0] // tensor.shape[0]
    return tensor.to(x.device).repeat(repeats, *[1] * (tensor.ndim - 1))


def transformer_velocity(
    transformer: VideoTransformer,
    text: TextTokens,
    schedule: Schedule,
    *,
    known: ConditioningLatents | None = None,
    beside_BCTHW: Tensor | None = None,
    image_BSD: Tensor | None = None,
    positions_T: Tensor | Sequence[float] | None = None,
    dtype: torch.dtype = torch.float32,
) -> Velocity:
    """The network as a velocity(x, sigma) in float32, computing in `dtype`.

    The text, the timesteps and which tokens are known are prepared at the first use: later ones wait for nothing.
    """
    prepared: list[PreparedText] = []
    token_times: dict[int, TokenTimes] = {}  # by batch
    timesteps: dict[float, Tensor] = {}  # by sigma

    def table(sigmas: Sequence[float], device: torch.device) -> Iterator[tuple[float, Tensor]]:
        times = [schedule.timestep(sigma) for sigma in sigmas]
        distinct = [[time] if known is None else [time, NUM_TRAIN_TIMESTEPS * known.noise] for time in times]
        return zip(sigmas, torch.tensor(distinct, device=device), strict=True)

    def velocity(x_BCTHW: Tensor, sigma: float) -> Tensor:
        batch = x_BCTHW.shape[0]
        if not prepared:
            prepared.append(transformer.prepare_text(text, dtype, image_BSD=image_BSD))
            timesteps.update(table(schedule.sigmas[:-1], x_BCTHW.device))
        if sigma not in timesteps:  # a solver that looks between the steps
            timesteps.update(table([sigma], x_BCTHW.device))
        if known is not None and batch not in token_times:
            index_BL = known.timestep_index(x_BCTHW, transformer.config.patch_size)
            token_times[batch] = TokenTimes(index_BL, 2, index_BL.shape[1])
        if known is not None:
            x_BCTHW = known.put_into(x_BCTHW)
        if beside_BCTHW is not None:
            x_BCTHW = torch.cat([x_BCTHW, _repeat(beside_BCTHW, x_BCTHW)], dim=1)
        velocity_BCTHW: Tensor = transformer(
            x_BCTHW.to(dtype), timesteps[sigma].expand(batch, -1), prepared[0],
            timestep_index_BL=token_times.get(batch), positions_T=positions_T,
        )  # fmt: skip
        return velocity_BCTHW.float()

    return velocity


@torch.no_grad()
def denoise(
    transformer: VideoTransformer,
    noise_BCTHW: Tensor,
    text: TextTokens,
    schedule: Schedule,
    *,
    negative_text: TextTokens | None = None,
    guidance: float = 1.0,
    branches_together: bool = True,
    low_noise: LowNoise | None = None,
    known_BCTHW: Tensor | None = None,
    known_mask_BTHW: Tensor | None = None,
    known_noise: float = 0.0,
    beside_BCTHW: Tensor | None = None,
    image_BSD: Tensor | None = None,
    positions_T: Tensor | Sequence[float] | None = None,
    solver: Solver = unipc,
    dtype: torch.dtype = torch.float32,
) -> Iterator[Step]:
    """Solve from `noise_BCTHW` (float32) to a latent; yields a `Step` after each step.

    With `guidance` above 1, `negative_text` (the encoding of "" or of a negative prompt, one for each item or one for
    all) is needed; both branches run in one batch, or with half the memory one after the other. Where `known_mask_BTHW`
    is true, `known_BCTHW` is given to the network and stands in every step's latent; the solver's own numbers there are
    never looked at. Networks of Wan's image to video take what is given otherwise: as channels `beside_BCTHW` the
    latent, and (2.1) as tokens `image_BSD` of an image encoder.
    `positions_T` are the temporal positions of the latent frames (0, 1, 2 ... unless told). The state stays in float32
    whatever `dtype` the network computes in. Raises NumericsError as soon as a step is not finite.
    """
    known = None
    if known_BCTHW is not None and known_mask_BTHW is not None and bool(known_mask_BTHW.any()):
        known = ConditioningLatents(known_BCTHW, known_mask_BTHW, known_noise)

    def guided(network: VideoTransformer, guidance: float) -> Velocity:
        def of(prompts: TextTokens) -> Velocity:
            return transformer_velocity(
                network, prompts, schedule, known=known, beside_BCTHW=beside_BCTHW, image_BSD=image_BSD,
                positions_T=positions_T, dtype=dtype,
            )  # fmt: skip

        return _guided(of, text, negative_text, guidance, noise_BCTHW.shape[0], branches_together)

    velocity = guided(transformer, guidance)
    if low_noise is not None:
        after = started(guided(low_noise.transformer, low_noise.guidance), low_noise.begin)
        velocity = by_noise(velocity, after, schedule, low_noise.boundary)
    solved = _finite(solver(velocity, noise_BCTHW.float(), schedule.sigmas), schedule.num_steps, dtype)
    for index, (sigma, x) in enumerate(solved, start=1):
        yield Step(index, schedule.num_steps, sigma, x if known is None else known.put_into(x))


def _guided(
    of: Callable[[TextTokens], Velocity],
    text: TextTokens,
    negative_text: TextTokens | None,
    guidance: float,
    batch: int,
    branches_together: bool,
) -> Velocity:
    """The velocity with classifier-free guidance, both branches in one batch or one after the other."""
    prompts = _for_each(text, batch)
    if guidance <= 1:
        return of(prompts)
    if negative_text is None:
        raise ValueError("guidance above 1 needs negative_text: the encoding of an empty prompt will do")
    negative = _for_each(negative_text, batch)
    if branches_together:
        return classifier_free(of(TextTokens.cat([prompts, negative])), guidance)
    return classifier_free_apart(of(prompts), of(negative), guidance)


def _finite(
    solved: Iterator[tuple[float, Tensor]], num_steps: int, dtype: torch.dtype
) -> Iterator[tuple[float, Tensor]]:
    """The same (sigma, x); raises NumericsError for a step that is not finite.

    Reading an answer waits for the device: on an accelerator each step's is read when the next step is under way.
    """
    unread: list[tuple[int, float, Tensor]] = []

    def read() -> None:
        for index, sigma, is_finite in unread:
            if not bool(is_finite):
                raise NumericsError(
                    f"step {index} of {num_steps} (sigma {sigma:.3f}) gave numbers that are not finite"
                    f" (computed in {str(dtype).removeprefix('torch.')})",
                    hint="compute in float32, and check the digests of the weights",
                )
        unread.clear()

    for index, (sigma, x) in enumerate(solved, start=1):
        if x.device.type != "cpu":
            read()
        unread.append((index, sigma, torch.isfinite(x).all()))
        if x.device.type == "cpu":
            read()
        yield sigma, x
    read()


def started(velocity: Velocity, begin: Callable[[], None]) -> Velocity:
    """The velocity, with `begin` called once before its first use."""
    begun: list[bool] = []

    def after_beginning(x: Tensor, sigma: float) -> Tensor:
        if not begun:
            begun.append(True)
            begin()
        return velocity(x, sigma)

    return after_beginning


def by_noise(high: Velocity, low: Velocity, schedule: Schedule, boundary: float) -> Velocity:
    """`high` while the timestep is at least `boundary` of the whole range, then `low`."""

    def velocity(x: Tensor, sigma: float) -> Tensor:
        return (high if schedule.timestep(sigma) >= boundary * NUM_TRAIN_TIMESTEPS else low)(x, sigma)

    return velocity


def _for_each(text: TextTokens, batch: int) -> TextTokens:
    return text[[0] * batch] if len(text.lengths_B) == 1 and batch > 1 else text
