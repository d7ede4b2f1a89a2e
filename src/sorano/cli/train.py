"""The commands that train a model and score it: train world, score."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from sorano.cli.console import absolute, report_errors, say
from sorano.presets import ALL_KINDS, DEFAULT_PRESET, find_preset, write_card

commands = typer.Typer()
train_app = typer.Typer(help="Train a model from nothing.", no_args_is_help=True)
commands.add_typer(train_app, name="train")


@train_app.command("world")
def train_world(
    recipe: Annotated[
        str,
        typer.Option(
            help="cpu: two hours on two cores; long: a night or more of them; sharp: that, with a sharper autoencoder"
            " first; gpu: for one large GPU, not run yet; curve: quality against compute; smoke: seconds."
        ),
    ] = "cpu",
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder of the run. A run that was stopped goes on where it was.")
    ] = Path("runs/world"),
    init: Annotated[
        str | None, typer.Option(help="A preset, or a diffusers folder, whose weights the run begins from.")
    ] = None,
    flow_steps: Annotated[
        int | None,
        typer.Option(min=1, help="Steps of the flow stage, in place of the recipe's: its rate falls at their end."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print every derived value and exit.")] = False,
) -> None:
    """Train the world model from nothing: render, autoencoder, flow model, and a diffusers folder at the end.

    stdout gets the path of that folder; `sorano generate --preset PATH` uses it. On several devices:
    `torchrun --nproc-per-node 8 -m sorano train world --recipe gpu` (each batch is shared out).
    """
    with report_errors():
        from sorano.train import recipes
        from sorano.train.ranks import is_first_process, leave

        chosen = recipes.find(recipe)
        if flow_steps is not None:
            chosen = replace(chosen, flow=replace(chosen.flow, num_steps=flow_steps))
        if dry_run:
            for name, value, why in recipes.describe(chosen):
                print(f"{name:<18} {value:<44} {why}".rstrip())
            return
        import numba  # noqa: F401  (what renders the world: missing, it is named before a folder is made)

        folder = recipes.run(chosen, out, init=find_preset(init).folder if init else None, log=say)
        if is_first_process():
            write_card(
                folder,
                size=f"{chosen.size}x{chosen.size}",
                num_frames=chosen.num_frames,
                fps=chosen.fps,
                max_num_frames=chosen.clip_frames,
                max_side=2 * chosen.size,
                small_vocabulary=True,
                known=list(ALL_KINDS),
                num_steps=chosen.num_steps,
                guidance=chosen.guidance,
            )
            print(absolute(folder))
        leave()


@commands.command()
def score(
    preset: Annotated[str, typer.Option(help="A preset's name, or the path of a diffusers folder.")] = DEFAULT_PRESET,
    num_clips: Annotated[int, typer.Option(help="Clips to make and judge, of each split.", min=1)] = 200,
    recipe: Annotated[str, typer.Option(help="Whose aims to compare with: cpu, long or gpu.")] = "cpu",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps or xpu.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of the table.")] = False,
) -> None:
    """Score a world model: does each video show what its caption says? With the evaluator's own errors beside it."""
    with report_errors():
        from sorano.world.score import find_silhouettes, load_sampler, score_model

        sampler = load_sampler(preset, device)
        report = score_model(
            sampler.generate,
            reconstruct=sampler.reconstruct,
            untrained=sampler.untrained().generate,
            num_clips=num_clips,
            recipe=recipe,
            size=sampler.size,
            num_frames=sampler.num_frames,
            silhouettes=find_silhouettes(),
            log=say,
        )
        print(json.dumps(report.to_dict()) if as_json else report.table())
