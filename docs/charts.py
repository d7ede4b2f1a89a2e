"""Draws the charts of docs/plan.md from the plans themselves: `python docs/charts.py`."""

from collections.abc import Iterator
from pathlib import Path

from sorano.plan import explain, plan_generate, plan_serve, plan_train
from sorano.plan.assumptions import load_assumptions
from sorano.plan.estimate import BarChart, Chart
from sorano.plan.report import svg

DOCS = Path(__file__).parent


def charts() -> Iterator[tuple[str, str]]:
    """The name and the text of each chart; dark on white, for pages of either colour."""
    assumptions = load_assumptions()
    made = {
        "plan-wall.svg": plan_generate(
            "movie-gen-30b", size="1280x720", fps=24.0, device="h100", assumptions=assumptions
        ),
        "plan-queue.svg": plan_serve("wan2.2-ti2v-5b", per_day=10_000, assumptions=assumptions),
        "plan-laws.svg": plan_train(flops=8.4e23, assumptions=assumptions),
        "plan-attention.svg": explain("sora-2024", assumptions=assumptions),
    }
    for name, estimate in made.items():
        yield name, standalone(estimate.charts[0])


def standalone(chart: Chart | BarChart) -> str:
    """The text of a file of its own."""
    style = "<style>text{font:12px system-ui,sans-serif}</style><rect width='100%' height='100%' fill='#fff'/>"
    head, _, body = svg(chart).partition(">")
    return f'{head} xmlns="http://www.w3.org/2000/svg">{style}{body}\n'


if __name__ == "__main__":
    for name, text in charts():
        (DOCS / name).write_text(text, encoding="utf-8")
        print(DOCS / name)
