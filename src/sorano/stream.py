"""Films: the same path stretch by stretch, in constant memory, with given videos copied in where they belong.

    layout    what follows what: `Copy` frames of a given video, `Make` latents of a prompt
    Film      goes along it: windows of latents -> decoder -> label, mark -> encoder, each finished stretch on disk
    close     the stretches become one MP4, labelled, signed and read back

A window of latents begins with what is known: nothing, a picture, the last latents of the window before (the decoder
keeps its cache, so there is no seam), or the last frames of a given video, encoded. It may end with what is known as
well: the first frames of the video that it leads to. So a film of ten minutes costs ten times one of a minute, and its
memory is that of one window.

While it grows, NAME.mp4.parts/film.h264 can be played. A run that was killed goes on from its last finished stretch
(`resume`), in float32 with the same frames.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sorano.conditions import Blend, Continue, FirstFrame, Loop, frames_to_video, unknown
from sorano.errors import CheckpointError, RequestError, VideoError
from sorano.frames import Rate, dissolved, leading_to, taking_over
from sorano.generate import (
    Eyes,
    Listener,
    Video,
    default_path,
    denoise,
    encode_text,
    finite_frames,
    inferred,
    load,
    prepare,
    read_loras,
    with_given,
    write_record,
)
from sorano.kept import write_private
from sorano.measure import out_of_memory_is_said, peak_memory
from sorano.outgoing import Outgoing, convert, title_of
from sorano.request import Request, Resolved
from sorano.shapes import TEMPORAL, VideoShape, latent_frames, video_frames
from sorano.sources import Source, open_source
from sorano.video import STREAM, Pieces, beside, check_target, fill, resize, whole_or_nothing
from sorano.wording import saved_prompt

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from sorano.generate import Model
    from sorano.measure import Clock
    from sorano.models.text_encoder import TextTokens
    from sorano.plan import Machine, RunEstimate
    from sorano.video import Frames

OVERLAP = 2  # latents of a window that are known from the one before
CONTEXT = 2  # latents that the last frames of a given video become: 5 frames
SUFFIX = 2  # latents that the first frames of a given video become: 8 frames
KNOWN_NOISE = 0.0  # put over the latents that are known (docs/LOG.md: drift)
ANCHOR = 0.5  # how far the carried latents' means and deviations are drawn back to those of the prompt's first windows
SETTLED = 8  # latents after which a prompt that took over from another has the picture to itself
HANDOVER = 8  # frames over which the error of coding a given video's last frame fades
ELSEWHERE = 20.0  # levels of mean difference from which on a given video is another scene than what is on screen
LEADING = 12  # frames over which a stretch is brought to the frame that it leads to
CHECKPOINT_SECONDS = 4.0  # of work that a kill may cost
PREVIEW_SECONDS = 20.0  # of work from which on it is said that a film can be watched while it grows
KEPT_SECONDS = 10.0  # of work that are worth keeping where a run fails
PARTS = ".parts"


@dataclass(frozen=True)
class Copy:
    """Frames of a given video, as they are."""

    source: Source
    num_frames: int  # of the film


@dataclass(frozen=True)
class Make:
    """Latents made of a prompt."""

    prompt: str
    num_latents: int
    anew: bool = False  # begins anew, or goes on from what is on screen
    image: Any = None  # where it begins anew: its first frame
    until: Source | None = None  # leads to this video
    arriving: str | None = None  # what that one shows, where it is another scene; None: the prompt
    back_to_start: bool = False  # leads to the film's own beginning


# What follows what.


def layout(job: Resolved) -> list[Copy | Make]:
    """The stretches of a film. Raises RequestError where they cannot be made."""
    request, source = job.request, job.source
    latents = latent_frames(job.shape.num_frames) - 1  # where something comes before
    verb = next((one for one in request.conditions if isinstance(one, Continue | Loop | Blend)), None)
    if isinstance(verb, Continue) and source is not None:
        require_length(source, job.rate)
        if verb.direction == "forward":
            return [Copy(source, source.num_frames), Make(request.prompt, latents)]
        most = longest_window(job) - SUFFIX
        if latents + 1 > most:
            raise RequestError(
                f"{job.preset.name} goes back by at most {video_frames(most - 1) / job.rate:.2f} s at once",
                "do it again with the file that comes out",
            )
        return [Make(request.prompt, latents + 1, anew=True, until=source), Copy(source, source.num_frames)]
    if isinstance(verb, Blend) and source is not None:
        second = open_source(verb.second)
        for one in (source, second):
            require_length(one, job.rate)
        arriving = saved_prompt(second.path) if second.path is not None else None
        bridge = Make(request.prompt, latents, until=second, arriving=arriving)
        return [Copy(source, source.num_frames), bridge, Copy(second, second.num_frames)]
    if isinstance(verb, Loop) and source is not None:
        require_length(source, job.rate)
        return [Copy(source, source.num_frames), Make(request.prompt, latents, until=source)]
    if isinstance(verb, Loop):
        total = latent_frames(job.shape.num_frames)
        back = min(longest_window(job) - CONTEXT - SUFFIX, total // 2)
        if total - back < SUFFIX + 1:
            raise RequestError(f"a loop of {request.seconds:g} s is too short", "give it more --seconds")
        image = next((one.image for one in request.given if isinstance(one, FirstFrame)), None)
        first = Make(request.prompt, total - back, anew=True, image=image)
        return [first, Make(request.prompt, back, back_to_start=True)]
    if request.shots:
        return _of_shots(job)
    image = next((one.image for one in request.given if isinstance(one, FirstFrame)), None)
    return [Make(request.prompt, latent_frames(job.shape.num_frames), anew=True, image=image)]


def _of_shots(job: Resolved) -> list[Copy | Make]:
    stretches: list[Copy | Make] = []
    prompt = job.request.prompt
    for number, shot in enumerate(job.request.shots):
        prompt = shot.prompt or prompt
        if shot.video is not None:
            source = open_source(shot.video)
            seconds = min(source.seconds, shot.seconds or source.seconds)
            stretches.append(Copy(source, max(1, round(seconds * job.fps))))
            continue
        if not prompt:
            raise RequestError(f"shot {number + 1} has no prompt, and there is none before it")
        anew = not stretches or shot.join == "cut"
        seconds = shot.seconds or job.preset.num_frames / job.rate
        latents = max(1, round(seconds * job.rate / TEMPORAL)) + anew
        stretches.append(Make(prompt, latents, anew=anew, image=shot.image))
    for before, make, after in zip(stretches, stretches[1:], stretches[2:], strict=False):
        joined = isinstance(make, Make) and not make.anew and isinstance(before, Copy) and isinstance(after, Copy)
        if joined:
            assert isinstance(make, Make) and isinstance(after, Copy)
            stretches[stretches.index(make)] = replace(make, until=after.source)
    return stretches


def require_length(source: Source, rate: float) -> None:
    """Raises RequestError for a video that is too short to go on from."""
    if source.seconds * rate < 1.5:
        raise RequestError(
            f"{source.name} is {source.num_frames} frame{'s'[: source.num_frames > 1]} long: too short to go on from",
            "animate it as a picture instead: sorano generate PROMPT --image frame.png",
        )


def window_latents(job: Resolved) -> int:
    """Latents of a usual window: what the model does best."""
    return latent_frames(job.preset.num_frames)


def longest_window(job: Resolved) -> int:
    """Latents of the longest window that the model was trained on."""
    most = job.preset.max_num_frames
    return latent_frames(1 + (most - 1) // TEMPORAL * TEMPORAL) if most is not None else window_latents(job)


def windows(job: Resolved) -> tuple[VideoShape, int]:
    """The largest window of a film, and how many of the usual ones it takes, for the plan."""
    usual = window_latents(job)
    count = 0
    largest = 1
    for stretch in layout(job):
        if isinstance(stretch, Make):
            count += max(1, -(-stretch.num_latents // max(1, usual - OVERLAP)))
            largest = max(largest, usual, min(longest_window(job), stretch.num_latents + CONTEXT + SUFFIX))
    return replace(job.shape, num_frames=video_frames(min(largest, longest_window(job)))), max(1, count)


def frames_of(job: Resolved, stretch: Copy | Make) -> int:
    """Frames that a stretch adds to the film."""
    if isinstance(stretch, Copy):
        return stretch.num_frames
    made = TEMPORAL * stretch.num_latents - (TEMPORAL - 1 if stretch.anew else 0)
    return made if job.rate == job.fps else max(1, round(made * job.fps / job.rate))


# The run.


def make(job: Resolved, machine: Machine, estimate: RunEstimate, clock: Clock, listener: Listener) -> Video:
    """Makes the film of a request and writes it."""
    request = job.request
    if request.output is None:
        request = replace(request, output=default_path(request))
        job = replace(job, request=request)
    parts = parts_of(Path(str(request.output)))
    if parts.exists():
        if not request.overwrite:
            raise RequestError(
                f"a run of {request.output} was stopped before its end",
                f"go on with: sorano resume {request.output}    or remove {parts}",
            )
        shutil.rmtree(parts)
    return _run(job, estimate, machine, clock, listener, None)


def resume(file: Path, listener: Listener, elsewhere: Mapping[str, Any] | None = None) -> Video:
    """Goes on with a film from its last finished stretch; `elsewhere` changes where the rest of it runs."""
    parts = parts_of(file)
    words, tensors = read_state(parts)
    request = Request(**{**words["request"], **(elsewhere or {}), "overwrite": words["overwrite"], "output": file})
    job, _, machine, estimate, clock = prepare(request, listener)
    return _run(job, estimate, machine, clock, listener, (words, tensors))


def parts_of(file: Path) -> Path:
    """Where a film grows."""
    return file.with_name(file.name + PARTS)


def _run(
    job: Resolved, estimate: RunEstimate, machine: Machine, clock: Clock, listener: Listener,
    kept: tuple[dict[str, Any], dict[str, Any]] | None,
) -> Video:  # fmt: skip
    output = Path(str(job.request.output))
    check_target(output, overwrite=job.request.overwrite)
    with out_of_memory_is_said(estimate), peak_memory(machine) as memory:
        with clock("load"):
            model = load(job.preset, machine, estimate.placement)
        film = Film(job, model, listener, parts_of(output))
        with clock("text"):
            film.read_prompts()
        if estimate.seconds > PREVIEW_SECONDS:
            listener.note(f"while it grows it can be played: {film.folder / STREAM}")
        try:
            if kept is not None:
                film.restore(*kept)
            with clock("film"):
                film.go()
        except BaseException as error:
            film.stop(error)
            raise
    record = write_record(job, model, estimate, clock.seconds, memory[0], film.out.count)
    video = Video(None, job.fps, job.request, record, path=output, mark_id=film.out.mark.id)
    video.report = film.close(output, record)
    if job.request.sheet is not None:
        video.save_sheet(job.request.sheet)
    return video


class Quiet(Listener):
    """Hears the steps of one window: their notes are said once, their progress is the film's."""

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.said: set[str] = set()

    def note(self, text: str) -> None:
        if text not in self.said:
            self.said.add(text)
            self.listener.note(text)


class Film:
    """A film that is being made: where it is, what the next window needs to know, and what is on disk."""

    def __init__(self, job: Resolved, model: Model, listener: Listener, folder: Path) -> None:
        import torch

        self.job, self.model, self.listener, self.folder = job, model, listener, folder
        self.quiet = Quiet(listener)
        self.stretches = layout(job)
        self.total = sum(frames_of(job, one) for one in self.stretches)
        assert job.request.seed is not None
        self.generator = torch.Generator().manual_seed(job.request.seed)
        self.loras = read_loras(job, listener)
        self.texts: dict[str, TextTokens] = {}
        self.out = Outgoing(job.request, fps=job.fps, num_frames=self.total, mark_id=self._mark_id())
        self.pieces = Pieces(folder, job.fps, job.aspect)
        # where it is
        self.index = 0  # of the stretch
        self.done = 0  # latents, or frames that were copied, of this stretch
        self.shown = 0  # frames of this stretch that went out
        self.rate = Rate(job.rate, job.fps)
        # what the next window needs
        self.carried: Tensor | None = None  # the last latents that were made
        self.anchor: Tensor | None = None  # mean and deviation of each channel in the first window
        self.pending: Tensor | None = None  # latents that were made and not yet decoded
        self.decoder: dict[Any, Tensor] = {}
        self.screen: Frames | None = None  # the last frames of a given video, at the model's size and rate
        self.last: Frames | None = None  # the very last one, at the film's size
        self.error: NDArray[np.float32] | None = None  # of coding that one
        self.head: Frames | None = None  # the film's first frames, at the model's size
        self.words: dict[str, Any] | None = None  # the request, where it can be written down
        with suppress(RequestError):
            self.words = job.request.to_json()
        self._checked = time.monotonic()
        self._began = time.monotonic()

    def _mark_id(self) -> int:
        """An id that follows from all that the film is made of."""
        import numpy as np

        from sorano.library import digests
        from sorano.trust.keys import canonical
        from sorano.trust.release import id_of

        words = canonical(
            {"request": self.job.request.to_dict(), "files": digests(self.job.request.named_files),
             "model": self.model.bundle.digests}
        )  # fmt: skip
        return id_of(np.frombuffer(words, np.uint8), self.job.fps, self.job.output_size)

    def read_prompts(self) -> None:
        """Encodes every prompt: what the model cannot read is said before any work."""
        for stretch in self.stretches:
            prompts = (stretch.prompt, stretch.arriving) if isinstance(stretch, Make) else ()
            for prompt in prompts:
                if prompt is None or prompt in self.texts:
                    continue
                request = replace(self.job.request, prompt=prompt)
                self.texts[prompt] = encode_text(self.model, replace(self.job, request=request))

    def go(self) -> None:
        """Goes along the stretches to the end."""
        self.listener.progress("film", self.out.count, self.total)
        while self.index < len(self.stretches):
            stretch = self.stretches[self.index]
            if isinstance(stretch, Copy):
                self._copy(stretch)
            else:
                while self.done < stretch.num_latents:
                    self._window(stretch)
            self.index, self.done, self.shown, self.anchor = self.index + 1, 0, 0, None
            self.rate = Rate(self.job.rate, self.job.fps)

    # A given video.

    def _copy(self, stretch: Copy) -> None:
        import numpy as np

        source, job = stretch.source, self.job
        rate = Rate(source.fps, job.fps)
        wanted = int(video_frames(CONTEXT) * job.fps / job.rate) + 2  # frames of the film that a window begins with
        recent: list[Frames] = []
        count = 0
        for chunk in source.frames():
            shown = rate(chunk)[: stretch.num_frames - count]
            if not len(shown):
                continue
            shown = self._fitted(shown)
            recent = [*recent, *shown][-wanted:]
            skip = max(0, self.done - count)
            count += len(shown)
            if skip < len(shown):
                self._emit(shown[skip:])
                self.done = count
                self._checkpoint()
        if count < stretch.num_frames and recent:
            self._emit(np.stack([recent[-1]] * (stretch.num_frames - count)))
        places = [len(recent) - 1 - round(back * job.fps / job.rate) for back in reversed(range(video_frames(CONTEXT)))]
        last = np.stack([recent[max(0, place)] for place in places])
        self.screen = resize(last, job.shape.width, job.shape.height)
        self.last = recent[-1]
        self.carried, self.decoder, self.error = None, {}, None

    def _fitted(self, frames_THWC: Frames) -> Frames:
        """Frames at the film's size: as they are where they have it."""
        import numpy as np

        width, height = self.job.output_size
        if frames_THWC.shape[1:3] == (height, width):
            return frames_THWC
        return np.stack([fill(frame, width, height)[0] for frame in frames_THWC])

    # A window.

    def _window(self, stretch: Make) -> None:
        """Makes one window of latents, decodes what is new of it, and puts it out."""
        left = stretch.num_latents - self.done
        usual, longest = window_latents(self.job), longest_window(self.job)
        leads = stretch.until is not None or stretch.back_to_start
        anew = stretch.anew and self.done == 0
        goes_on = self.carried is not None and "middle" in self.job.kinds
        if anew:
            known = 0
        elif goes_on:
            known = OVERLAP
        else:
            known = CONTEXT if "prefix" in self.job.kinds and self.screen is not None and len(self.screen) > 1 else 1
        suffix = SUFFIX if leads and left + known + SUFFIX <= longest else 0
        new = left if suffix else min(usual - known, left)
        if leads and not suffix:  # leave the last window room to lead over
            new = min(new, max(1, left - (longest - OVERLAP - SUFFIX)))
        if not anew and not goes_on:
            self._begin_from_screen(known)
        across = bool(suffix) and self._is_elsewhere(stretch)
        latent = self.pending
        if latent is None:
            latent = self._denoised(stretch, known, new, suffix, anew=anew, goes_on=goes_on, across=across)
        frames_THWC = self._decoded(latent[:, :, known:] if goes_on else latent, goes_on=goes_on)
        self.carried = latent[:, :, max(0, known + new - OVERLAP) : known + new].contiguous()
        if ANCHOR:
            self._anchor(latent, settled=stretch.anew or self.done >= SETTLED)
        self.pending = None
        if not goes_on and not anew:
            frames_THWC = self._handed_over(frames_THWC, video_frames(known))
        if suffix:
            self.carried = None
        if self.head is None or len(self.head) < TEMPORAL * SUFFIX:
            self._remember_head(frames_THWC)
        self.screen = frames_THWC[-1:]
        self.done += new
        large = self._fitted_up(frames_THWC)
        if suffix:
            ends = len(large) - TEMPORAL * SUFFIX
            large = dissolved(large[:ends], self._arrival(stretch, new)) if across else self._led_over(large, stretch)
        self._put_out(large, frames_of(self.job, stretch))
        self._checkpoint()

    def _is_elsewhere(self, stretch: Make) -> bool:
        """Whether it leads to another scene: no movement leads there, one picture has to give way to the other."""
        import numpy as np

        if stretch.until is None or self.screen is None:
            return False
        return float(np.abs(self._target(stretch)[0].astype(np.float32) - self.screen[-1]).mean()) > ELSEWHERE

    def _arrival(self, stretch: Make, new: int) -> Frames:
        """As many frames of what comes before the video that it leads to, at the film's size."""
        before = replace(stretch, prompt=stretch.arriving or stretch.prompt, image=None)
        latent = self._denoised(before, 0, new + 1, SUFFIX, anew=True, goes_on=False, keep=False)
        frames_THWC = self._decoded(latent, goes_on=False)
        return self._led_over(self._fitted_up(frames_THWC), stretch)[1:]

    def _anchor(self, latent_BCTHW: Tensor, *, settled: bool) -> None:
        """Draws what is carried on back to the mean and deviation that each channel had when the prompt was young.

        Where a prompt takes over from another, that is when it has `settled`.
        """
        import torch

        if self.anchor is None and settled:
            self.anchor = torch.stack([latent_BCTHW[0].mean((1, 2, 3)), latent_BCTHW[0].std((1, 2, 3))])
        if self.anchor is None:
            return
        assert self.carried is not None
        mean, std = (value.view(1, -1, 1, 1, 1) for value in self.anchor)
        own_mean = self.carried.mean((2, 3, 4), keepdim=True)
        own_std = self.carried.std((2, 3, 4), keepdim=True) + 1e-6
        wanted = (self.carried - own_mean) / own_std * std + mean
        self.carried = self.carried + ANCHOR * (wanted - self.carried)

    def _begin_from_screen(self, known: int) -> None:
        """A decoder with an empty cache, and the context at hand."""
        self.decoder = {}
        if self.screen is None:
            raise VideoError("there is nothing on screen to go on from")
        if "middle" not in self.job.kinds and self.done:
            self.quiet.note(
                f"{self.job.preset.name} takes a first frame only: each stretch begins with the last one's end"
            )
        self.screen = self.screen[-video_frames(known) :]

    def _denoised(
        self, stretch: Make, known: int, new: int, suffix: int, *, anew: bool, goes_on: bool, across: bool = False,
        keep: bool = True,
    ) -> Tensor:  # fmt: skip
        """The latents of a window: known, new, known; where it goes across to another scene its end is left open."""
        import torch

        model, job = self.model, self.job
        channels = model.bundle.vae.config.z_dim
        latent = job.shape.latent(
            spatial=model.bundle.vae.config.scale_factor_spatial, temporal=model.bundle.vae.config.scale_factor_temporal
        )
        total = known + new + suffix
        shape = replace(job.shape, num_frames=video_frames(total))
        noise = torch.randn(channels, total, latent.rows, latent.columns, generator=self.generator)[None]
        state = unknown(noise)
        eyes = Eyes(model)
        given: list[Any] = []
        if anew and stretch.image is not None:
            given = [FirstFrame(stretch.image)]
        elif not anew and not goes_on and known == 1:
            assert self.screen is not None
            given = [FirstFrame(self.screen[-1])]
        state = with_given(model, state, shape, given, job.rate, self.quiet if anew else Listener())
        with torch.inference_mode(), model.present("vae"):
            if goes_on:
                assert self.carried is not None
                carried = self.carried
                if KNOWN_NOISE:
                    fresh = torch.randn(carried.shape, generator=self.generator)
                    carried = (1 - KNOWN_NOISE) * carried + KNOWN_NOISE * fresh
                    state = replace(state, known_noise=KNOWN_NOISE)
                state = state.with_known(carried)
            elif not anew and known > 1:
                assert self.screen is not None
                state = state.with_known(eyes.encode(frames_to_video(self.screen)))
            if suffix and not across:
                state = state.with_known(self._suffix_latents(stretch, suffix), start=known + new)
        began = time.monotonic()
        text = self.texts[stretch.prompt]
        made = denoise(model, job, text, state, Listener(), self.loras).float().cpu()
        if keep and time.monotonic() - began > CHECKPOINT_SECONDS:
            self.pending = made  # a long denoise is not lost should decoding fail
            self._checkpoint(now=True)
        return made

    def _target(self, stretch: Make) -> Frames:
        """The first frames of what a window leads to, at the model's size and rate."""
        if stretch.back_to_start:
            assert self.head is not None
            return self.head[: TEMPORAL * SUFFIX]
        assert stretch.until is not None
        times = [place / self.job.rate for place in range(TEMPORAL * SUFFIX)]
        return resize(stretch.until.sampled(times), self.job.shape.width, self.job.shape.height)

    def _suffix_latents(self, stretch: Make, count: int) -> Tensor:
        """The first frames of what it leads to, encoded as frames of a video that goes on: their past stands still."""
        import numpy as np

        frames = self._target(stretch)
        still = np.repeat(frames[:1], TEMPORAL + 1, 0)
        return Eyes(self.model).encode(frames_to_video(np.concatenate([still, frames])))[:, :, -count:]

    def _led_over(self, frames_THWC: Frames, stretch: Make) -> Frames:
        """Frames at the film's size without the suffix, brought more and more to the frame that follows."""
        ends = len(frames_THWC) - TEMPORAL * SUFFIX
        target = self._fitted_up(self._target(stretch)[:1])
        if stretch.until is not None:
            target = self._fitted(stretch.until.sampled([0.0]))
        made = frames_THWC[:ends].copy()
        count = min(LEADING, len(made))
        made[-count:] = leading_to(made[-count:], frames_THWC[ends], target[0])
        return made

    def _decoded(self, latent_BCTHW: Tensor, *, goes_on: bool) -> Frames:
        """The frames of latents that go on from those decoded before, or begin anew."""
        import numpy as np
        import torch

        model = self.model
        latent_BCTHW = latent_BCTHW.to(model.machine.device, getattr(torch, model.machine.dtype))
        if not goes_on:
            self.decoder = {}
        with model.present("vae"):
            stream = model.bundle.vae.decode_stream(latent_BCTHW.split(model.placement.chunk, dim=2), self.decoder)
            parts = [finite_frames(video_BCTHW, model.machine) for video_BCTHW in inferred(stream)]
        return np.concatenate(parts)

    def _handed_over(self, frames_THWC: Frames, context: int) -> Frames:
        """Without the context; what its coding lost of the last frame is remembered, to fade."""
        import numpy as np

        coded = self._fitted_up(frames_THWC[context - 1 : context])[0]
        if self.last is not None:
            self.error = self.last.astype(np.float32) - coded
        return frames_THWC[context:]

    def _fitted_up(self, frames_THWC: Frames) -> Frames:
        """Frames of the model at the film's size."""
        return resize(frames_THWC, *self.job.output_size)

    def _remember_head(self, frames_THWC: Frames) -> None:
        import numpy as np

        head = frames_THWC if self.head is None else np.concatenate([self.head, frames_THWC])
        self.head = head[: TEMPORAL * SUFFIX]

    # Out.

    def _put_out(self, frames_THWC: Frames, most: int) -> None:
        """Made frames at the film's size, on their way to the file; the last one of a stretch is held to its length."""
        import numpy as np

        stretch = self.stretches[self.index]
        if self.error is not None:
            frames_THWC = taking_over(frames_THWC, self.error, self.rate.seen, HANDOVER)
            if self.rate.seen + len(frames_THWC) >= HANDOVER:
                self.error = None
        shown = self.rate(frames_THWC)[: most - self.shown]
        assert isinstance(stretch, Make)
        if self.done >= stretch.num_latents and self.shown + len(shown) < most:
            lacking = most - self.shown - len(shown)
            shown = np.concatenate([shown, np.repeat(frames_THWC[-1:], lacking, 0)])
        self.shown += len(shown)
        if len(shown):
            self.last = shown[-1]
            self._emit(shown)

    def _emit(self, frames_THWC: Frames) -> None:
        self.pieces.put(self.out(frames_THWC))
        self.listener.progress("film", self.out.count, self.total)

    # On disk.

    def _checkpoint(self, *, now: bool = False) -> None:
        """Keeps all that the rest depends on, every few seconds."""
        if self.words is None or (not now and time.monotonic() - self._checked < CHECKPOINT_SECONDS):
            return
        import numpy as np
        import torch

        self.pieces.flush()
        words, out = {}, self.out.state()
        tensors: dict[str, Any] = {"generator": self.generator.get_state()}
        for name in ("carried", "pending", "anchor", "screen", "last", "error", "head"):
            value = getattr(self, name)
            if value is not None:
                tensors[name] = (
                    value if isinstance(value, torch.Tensor) else torch.from_numpy(np.ascontiguousarray(value))
                )
        names = {module: name for name, module in self.model.bundle.vae.named_modules()}
        tensors |= {f"decoder.{names[module]}": value for module, value in self.decoder.items()}
        for part in ("taker", "marker"):
            for name, value in out[part].items():
                if isinstance(value, np.ndarray):
                    tensors[f"{part}.{name}"] = torch.from_numpy(np.ascontiguousarray(value))
                else:
                    words[f"{part}.{name}"] = value
        words |= {
            "request": self.words, "overwrite": self.job.request.overwrite,
            "index": self.index, "done": self.done, "shown": self.shown, "rate": [self.rate.seen, self.rate.shown],
            "out": {"count": out["count"], "size": out["size"]}, "pieces": self.pieces.state(),
        }  # fmt: skip
        write_state(self.folder, words, tensors)
        self._checked = time.monotonic()

    def restore(self, words: dict[str, Any], tensors: dict[str, Any]) -> None:
        """Goes on from what was kept."""
        self.generator.set_state(tensors["generator"])
        for name in ("carried", "pending", "anchor"):
            setattr(self, name, tensors.get(name))
        for name in ("screen", "last", "error", "head"):
            setattr(self, name, tensors[name].numpy() if name in tensors else None)
        modules = dict(self.model.bundle.vae.named_modules())
        self.decoder = {
            modules[name.removeprefix("decoder.")]: value.to(self.model.machine.device)
            for name, value in tensors.items() if name.startswith("decoder.")
        }  # fmt: skip
        out: dict[str, Any] = dict(words["out"])
        for part in ("taker", "marker"):
            out[part] = {k.split(".", 1)[1]: v for k, v in words.items() if k.startswith(f"{part}.")}
            out[part] |= {k.split(".", 1)[1]: v.numpy() for k, v in tensors.items() if k.startswith(f"{part}.")}
        self.out.restore(out)
        self.index, self.done, self.shown = words["index"], words["done"], words["shown"]
        self.rate.seen, self.rate.shown = words["rate"]
        self.pieces.restore(words["pieces"])
        self.listener.note(f"goes on at {self.out.count / self.job.fps:.1f} of {self.total / self.job.fps:.1f} s")

    def stop(self, error: BaseException) -> None:
        """What a failure leaves: a film that can go on where that is worth it, else nothing."""
        self.pieces.abandon()
        kept = (self.folder / STATE).exists()
        if kept and time.monotonic() - self._began > KEPT_SECONDS:
            error.add_note(f"what is finished is kept: sorano resume {self.job.request.output}")
        else:
            shutil.rmtree(self.folder, ignore_errors=True)

    def close(self, output: Path, record: dict[str, Any]) -> Any:
        """One file of all pieces, with the sound of the first given video, sealed; the pieces go."""
        copied = next(((i, one) for i, one in enumerate(self.stretches) if isinstance(one, Copy)), None)
        sound = None
        if copied is not None and copied[1].source.has_sound and copied[1].source.path is not None:
            before = sum(frames_of(self.job, one) for one in self.stretches[: copied[0]])
            sound = (copied[1].source.path, before / self.job.fps, copied[1].num_frames / self.job.fps)
        with whole_or_nothing(output, overwrite=self.job.request.overwrite) as temporary:
            said = self.pieces.join(temporary, record, title_of(self.job.request), sound)
            if said:
                self.listener.note(said)
            if output.suffix.lower() != ".mp4":
                with beside(output) as joined:
                    os.replace(temporary, joined)
                    for note in convert(joined, temporary, output, self.out, record):
                        self.listener.note(note)
            report = self.out.seal(temporary, record, output)
        shutil.rmtree(self.folder, ignore_errors=True)
        return report


# What is kept of a run.

STATE = "state.safetensors"


def write_state(folder: Path, words: dict[str, Any], tensors: dict[str, Any]) -> None:
    """Keeps words and tensors in a file that only its owner can read, all or nothing."""
    from safetensors.torch import save

    content = save({name: value.cpu().contiguous() for name, value in tensors.items()}, {"film": json.dumps(words)})
    write_private(folder / STATE, content)


def read_state(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What was kept of a run. Raises CheckpointError where there is nothing, or nothing whole."""
    from safetensors import SafetensorError, safe_open

    file = folder / STATE
    try:
        with safe_open(file, framework="pt") as opened:
            words: dict[str, Any] = json.loads((opened.metadata() or {})["film"])
            return words, {name: opened.get_tensor(name) for name in opened.keys()}
    except FileNotFoundError as error:
        raise CheckpointError(f"{folder} holds no finished stretch yet", f"remove {folder} and begin again") from error
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{file} is not what a film keeps: {error}", f"remove {folder} and begin again"
        ) from error
