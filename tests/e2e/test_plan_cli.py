"""`sorano plan` as people type it: tables, one JSON document, pages, and clear errors."""

import json
import math
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest
from typer.testing import CliRunner

from sorano.cli import app
from sorano.plan import compare, plan_edge, plan_generate
from sorano.plan.assumptions import load_assumptions
from sorano.plan.estimate import BarChart, Chart, Range, shown
from sorano.plan.report import svg
from sorano.plan.serving import plan_serve

COMMANDS = [
    "generate wan2.2-t2v-a14b --size 1280x720 --seconds 5 --device h100 --count 8",
    "generate world --seconds 3600",
    "train --preset movie-gen-30b --device h200 --count 1024",
    "train --flops 8.4e23",
    "serve wan2.2-ti2v-5b --per-day 10000 --peak 2.5 --wait 60 --quantile 0.95",
    "explain sora-2024",
    "explain gpt-3",
    "explain chatgpt-2023",
    "edge wan2.1-t2v-1.3b --device snapdragon-8-elite",
    "generate --minutes 1,10,60",
    "generate --layers 48 --width 6144 --device h100",
]
PAGES = [*COMMANDS, "sources", 'compare "generate world --device h100" "edge world --device m4-max"']


def run(words, code=0):
    import shlex

    done = CliRunner().invoke(app, ["plan", *shlex.split(words)], env={"COLUMNS": "160"})
    assert done.exit_code == code, (words, done.output, done.exception)
    return done


@pytest.mark.parametrize("words", COMMANDS)
def test_every_command_prints_a_table_and_one_json_document(words):
    shown = run(f"{words} --why").stdout
    assert len(shown.splitlines()) > 8
    document = json.loads(run(f"{words} --json").stdout)
    assert document["title"] and document["values"] and document["title"].splitlines()[0] in shown
    for fact in document["facts"]:
        assert {"low", "value", "high", "tag", "date", "source"} <= set(fact)
    assert "nan" not in shown.lower().replace("finance", "")


@pytest.mark.parametrize("words", COMMANDS)
def test_the_first_answer_is_ten_lines_of_eighty_columns(words):
    lines = run(words).stdout.splitlines()
    assert 4 <= len(lines) <= 10 and max(map(len, lines)) <= 80, lines
    assert "--why" in lines[-1]


@pytest.mark.parametrize("words", [*COMMANDS, "sources devices"])
@pytest.mark.parametrize("columns", [80, 200])
def test_nothing_is_cut_off_in_a_terminal(words, columns):
    why = "" if words.startswith("sources") else " --why"
    done = CliRunner().invoke(app, ["plan", *(words + why).split()], env={"COLUMNS": str(columns)})
    assert done.exit_code == 0 and "…" not in done.stdout
    wide = [line for line in done.stdout.splitlines() if len(line) > columns and "://" not in line]
    assert not wide
    if words == "generate wan2.2-t2v-a14b --size 1280x720 --seconds 5 --device h100 --count 8":
        assert "app closed 2026-04-26, API announced to end 2026-09-24" in " ".join(done.stdout.split())


def test_money_is_shown_at_the_users_own_rate_and_the_day_is_said():
    words = "generate wan2.1-t2v-1.3b --device h100 --price 3.6"
    plain, own = (json.loads(run(f"{words} --json{more}").stdout) for more in ("", " --currency eur=0.5@2026-11-20"))
    assert own["values"] == plain["values"]  # a program's numbers stay in USD
    assert own["currency"] == {"code": "EUR", "per_usd": 0.5, "day": "2026-11-20"}
    shown = run(f"{words} --why --currency EUR=0.5@2026-11-20").stdout
    assert "amounts in EUR at 0.5 a USD, your rate of 2026-11-20" in shown
    usd = plain["values"]["usd"]["default"]
    assert f"{usd / 2:.2g} EUR" in shown.replace("0 EUR", " EUR") or f"{usd / 2:.2f} EUR" in shown
    for wrong in ("EUR", "EUR=", "EUR=-1", "EURO=1", "EUR=0", "EUR=1@2026-13-01"):
        assert "--currency EUR=0.92" in run(f"{words} --currency {wrong}", code=2).stderr


def test_a_service_says_what_a_month_takes():
    values = json.loads(run("serve wan2.2-ti2v-5b --per-day 10000 --json").stdout)["values"]
    day = values["devices"]["default"] * 24 * 2.95
    assert math.isclose(values["usd_month"]["default"], day * 365.25 / 12, rel_tol=1e-6)
    assert values["usd_month_floor"]["default"] < values["usd_month"]["default"]


@pytest.mark.parametrize(
    ("value", "unit", "said"),
    [
        (5_156_370.0, "USD", "5.16 million USD"), (12_345.0, "USD", "12,300 USD"), (0.034, "EUR", "0.034 EUR"),
        (2.5e9, "USD", "2.5 billion USD"), (1.5e6, "g CO2", "1.5 t CO2"), (890.2e6, "g CO2", "890 t CO2"),
        (147.6, "g CO2", "148 g CO2"), (0.3141, "kWh", "314 Wh"), (1.894e6, "kWh", "1.89 GWh"), (999.9, "kWh", "1 MWh"),
        (Range(0.1874, 0.3141, 0.7309), "kWh", "310 Wh (190 Wh to 730 Wh)"),
        (Range(3_355_298.0, 11_550_270.0, 44_496_500.0), "USD", "12 million USD (3.4 million USD to 44 million USD)"),
        (Range(100.0, 101.0, 102.0), "USD", "101 USD (100 USD to 102 USD)"),
    ],
)  # fmt: skip
def test_numbers_are_no_more_exact_than_they_are_known(value, unit, said):
    assert shown(value, unit) == said


def test_plans_are_side_by_side():
    words = 'compare "generate world --device h100" "generate wan2.1-t2v-1.3b --device rtx-4090"'
    shown = run(words).stdout
    assert "world on H100" in shown.replace("\n", " ") and "RTX 4090" in shown
    plans = json.loads(run(f"{words} --json").stdout)["plans"]
    assert [plan["values"]["tokens"] for plan in plans] == [112, 32_760]


def test_plans_are_compared_in_python_as_on_the_command_line():
    assumptions = load_assumptions()
    plans = [plan_generate("world", device=device, assumptions=assumptions) for device in ("h100", "rtx4090")]
    made = compare(*plans)
    table = made.tables[0]
    assert table.columns[1:] == tuple(plan.title for plan in plans)
    assert [row[0] for row in table.rows][:2] == ["seconds", "denoise seconds"]
    assert {fact.name for fact in made.assumptions} >= {"price.h100", "price.rtx4090"}


@pytest.mark.parametrize("words", PAGES)
def test_every_command_writes_a_page(words, tmp_path):
    page = tmp_path / "report.html"
    run(f"{words} --html {page}")
    text = page.read_text()
    assert "<table" in text and "http://" not in text.replace("http://www.w3.org", "")
    for drawing in re.findall(r"<svg.*?</svg>", text, re.S):
        ElementTree.fromstring(drawing)
    if words.split()[0] not in ("sources", "explain"):
        assert "<svg" in text


def test_plans_side_by_side_are_one_table_of_a_page(tmp_path):
    page = tmp_path / "report.html"
    run(f'compare "generate world --device h100" "generate world --device a100" --html {page}')
    text = page.read_text()
    assert text.count("<h1>") == 1 and "<th>Generate: 2.08 s of 128x128 by world on A100" in text


def test_a_calibration_prints_a_table_one_document_or_a_page(monkeypatch, tmp_path):
    from sorano import calibrate
    from sorano.plan.machine import CPU

    monkeypatch.setattr(calibrate, "calibrate", lambda device, say: CPU)
    page = tmp_path / "profile.html"
    assert "two ordinary cores" in run(f"calibrate --html {page}").stdout
    assert "seconds per layer" in page.read_text()
    assert json.loads(run("calibrate --json").stdout)["linear"] == CPU.linear
    run(f"calibrate --html {page}", code=2)


def test_many_names_of_lines_do_not_lie_over_each_other():
    lines = tuple((f"line {n}", ((1.0, 1.0), (2.0, n + 1.0))) for n in range(6))
    drawing = ElementTree.fromstring(svg(Chart("many", "x", "y", lines)))
    places = [(part.get("x"), part.get("y")) for part in drawing.iter("text") if part.text.startswith("line ")]
    assert len(set(places)) == 6
    top = min(float(y) for part in drawing.iter("polyline") for y in re.findall(r",([\d.]+)", part.get("points")))
    assert top > max(float(y) for _, y in places)


def test_bars_keep_their_proportions_and_stay_in_the_picture():
    (chart,) = plan_edge("wan2.1-t2v-1.3b", device="snapdragon-8-elite", assumptions=load_assumptions()).charts
    assert isinstance(chart, BarChart) and chart.limit is not None
    drawing = ElementTree.fromstring(svg(chart))
    wide = [float(part.get("width")) for part in drawing.iter("rect")]
    assert wide[0] / wide[1] == pytest.approx(chart.bars[0][1] / chart.bars[1][1], rel=0.01)
    assert all(math.isfinite(w) and 0 < w < 720 for w in wide)


def test_a_page_stands_alone(tmp_path):
    page = tmp_path / "report.html"
    run(f"explain sora-2024 --html {page}")
    text = page.read_text()
    assert text.count("<svg") == 1 and "4.667 T" in text
    assert "@media print" in text and "break-inside: avoid" in text
    loading = ("src=", "<script", "<link", "@import", "url(", "<img", "<iframe")  # addresses of sources are text
    assert not [word for word in loading if word in text]
    run(f"explain sora-2024 --html {page}", code=2)  # kept
    run(f"explain sora-2024 --html {page} --overwrite")
    assert not list(tmp_path.glob(".*"))


def test_charts_are_drawings_that_parse():
    for made in (plan_serve("world", per_day=10, assumptions=load_assumptions()),):
        for chart in made.charts:
            drawing = ElementTree.fromstring(svg(chart))
            lines = [part for part in drawing.iter() if part.tag == "polyline"]
            assert len(lines) == len(chart.series)
            for part in lines:
                for point in part.get("points").split():
                    x, y = (float(number) for number in point.split(","))
                    assert 0 <= x <= 720 and 0 <= y <= 340


def test_every_source_is_printed():
    shown = run("sources").stdout
    for name in ("goodput", "h100", "movie-gen-30b", "seaweed-7b", "mle-wan-14b-h100", "sora-2"):
        assert re.search(rf"^ *{name}\b", shown, re.M), name
    assert set(json.loads(run("sources devices --json").stdout)) == {"tags", "devices"}


def test_your_own_numbers_take_part(tmp_path):
    mine = tmp_path / "mine.toml"
    mine.write_text("[devices.h100]\nusd_h = 100.0\n")
    words = "generate wan2.1-t2v-1.3b --device h100 --json"
    dear, usual = (json.loads(run(f"{words}{more}").stdout) for more in (f" --facts {mine}", ""))
    assert dear["values"]["usd"]["default"] > 30 * usual["values"]["usd"]["default"]
    assert next(fact for fact in dear["facts"] if fact["name"] == "price.h100")["tag"] == "U"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("generate wrold", "the nearest is world"),
        ("generate world --device h1oo", "the nearest is h100"),
        ("generate world --seconds 0", "seconds is 0"),
        ("generate world --minutes soon", "--minutes 1,10,60"),
        ("generate world --memory lots", "12GB"),
        ("train", "in one way"),
        ("train --preset world --flops 1e20", "in one way"),
        ("train --config nowhere.toml", "nowhere.toml cannot be read"),
        ("explain sora-2025", "the nearest is sora-2024"),
        ("sources gadgets", "the nearest is"),
        ("generate world --facts nowhere.toml", "nowhere.toml cannot be read"),
        ("serve world --per-day -3", "per_day is -3"),
        ('compare "remove everything"', "is no plan"),
        ('compare "generate world --frobnicate 3"', "frobnicate"),
        ("edge world --memory 8", "say which device"),
        ("edge world --bits 3", "use one of 16, 8, 4"),
        ('compare "generate --help"', "made no plan"),
        ("compare 'generate \"world'", "no closing quotation"),
        ("generate movie-gen-30b", "--device h100"),
        ("generate movie-gen-30b --device dimensity-9400", "no arithmetic rate"),
        ("train --preset movie-gen-30b --device dimensity-9400", "no arithmetic rate"),
        ("serve world --per-day 10 --device dimensity-9400", "no arithmetic rate"),
        ("train --preset movie-gen-30b --price nan", "price is nan"),
        ("train --preset gpt-3", "is a language model"),
        ("serve gpt-3 --per-day 3", "is a language model"),
        ("generate gtp-3", "the nearest is"),
        ("generate world --grid mars", "grid is for devices"),
        ("generate world --device h100 --grid mars", "known are: world"),
        ("serve world --per-day 10 --service 0", "service is 0"),
    ],
)
def test_bad_words_are_one_clear_line(words, said):
    done = run(words, code=2)
    assert said in done.stderr and "Traceback" not in done.output


def test_a_plan_imports_nothing_heavy(tmp_path):
    import shlex

    lines = [[*shlex.split(words), "--html", f"{tmp_path / str(n)}.html"] for n, words in enumerate(PAGES)]
    code = (
        "import sys\nfrom sorano.cli import app\n"
        f"for words in {lines}:\n    app(['plan', *words], standalone_mode=False)\n"
        "print(sorted({name.split('.')[0] for name in sys.modules} & {'torch', 'numpy', 'av', 'PIL', 'tokenizers'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
