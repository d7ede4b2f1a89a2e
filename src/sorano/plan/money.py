"""What device-seconds cost in money, electricity and carbon."""

from __future__ import annotations

from sorano.errors import RequestError
from sorano.plan.assumptions import Assumption, Assumptions, number
from sorano.plan.estimate import CASES, Range, Row, Table
from sorano.plan.hardware import Device

JOULES_PER_KWH = 3.6e6
USD_SECOND = ("usd_s_low", "usd_s", "usd_s_high")


def costs(
    assumptions: Assumptions,
    device: Device,
    device_seconds: Range,
    *,
    usd_hour: float | None = None,
    grid: str = "world",
) -> tuple[list[Row], list[Assumption]]:
    """Rows "usd", "kwh", "co2_g" of so many device-seconds, and the constants behind them.

    kWh = the share of TDP x TDP x device-seconds x what hosts, network and cooling add. Raises RequestError for a price
    that is none, and for an electricity that is not known.
    """
    if usd_hour is not None:
        check_price(usd_hour)
    share, facility = assumptions.constant("energy.tdp"), assumptions.constant("energy.facility")
    carbon = find_grid(assumptions, grid)
    rows: list[Row] = []
    used: list[Assumption] = []
    price = device.price
    if usd_hour is not None:
        price = Assumption("price.yours", usd_hour, usd_hour, usd_hour, "USD/h", "U", "", "given on the command line")
    if price is not None:
        usd = Range(*(getattr(device_seconds, case) / 3600 * price.at(case) for case in CASES))
        rows.append(Row("usd", usd, "USD", f"device-hours x {price.value:g} USD/h"))
        used.append(price)
    if device.watts is not None:
        kwh = Range(
            *(
                getattr(device_seconds, case) * device.watts * share.at(case) * facility.at(case) / JOULES_PER_KWH
                for case in CASES
            )
        )
        bill = assumptions.constant("energy.usd_kwh")
        why = f"{share.value:g} x {device.watts:g} W x device-seconds x {facility.value:g} for the facility"
        rows.append(Row("kwh", kwh, "kWh", why))
        rows.append(
            Row("co2_g", Range(*(getattr(kwh, c) * carbon.at(c) for c in CASES)), "g CO2", f"{carbon.value:g} g/kWh")
        )
        rows.append(
            Row(
                "usd_electricity",
                Range(*(getattr(kwh, c) * bill.at(c) for c in CASES)),
                "USD",
                "in the price if rented",
            )
        )
        used += [share, facility, carbon, bill]
    return rows, used


def check_price(usd_hour: float) -> None:
    """Raises RequestError for a price of a device-hour that is none."""
    if not 0 < usd_hour < 1e6:
        raise RequestError(f"price is {usd_hour:g}, and must be above 0 and below 1,000,000 USD per device-hour")


def find_grid(assumptions: Assumptions, name: str) -> Assumption:
    """Grams of CO2 a kWh. Raises RequestError naming those that are known."""
    if f"grid.{name}" not in assumptions.rows["constants"]:
        known = [row.removeprefix("grid.") for row in assumptions.rows["constants"] if row.startswith("grid.")]
        raise RequestError(f"there is no grid {name!r}", f"known are: {', '.join(known)}; add yours with --facts")
    return assumptions.constant(f"grid.{name}")


def per_second(row: Row, seconds: float) -> Row:
    """What a row of a whole video is for a second of it."""
    assert isinstance(row.value, Range)
    each = Range(*(getattr(row.value, case) / seconds for case in CASES))
    return Row(f"{row.name.removesuffix('_per_video')}_per_video_second", each, row.unit, "of the video")


def published_prices(assumptions: Assumptions, own_usd_per_second: Range | None) -> Table:
    """What services charge for a second of video, and what hosting takes, ours first. Figures that contradict each
    other are all shown, those that nobody can buy any more are called history."""
    rows: list[tuple[str, str, float | None, float | None, float | None, str, str]] = []
    if own_usd_per_second is not None:
        own = own_usd_per_second
        rows.append(("this plan: devices alone", "own hosting", own.low, own.default, own.high, "", ""))
    for row in assumptions.table("prices"):
        if row["kind"] != "reported":  # is no price per second
            low, typical, high = (number(row, c, "prices") if row[c] else None for c in USD_SECOND)
            known = f"{row['tag']}, {row['date']}, {row['source']}"
            rows.append((row["title"], row["kind"] or "service", low, typical, high, known, row["note"]))
    return Table(
        "A second of video, beside published prices",
        ("service", "kind", "low", "typical", "high", "how known", "note"), tuple(rows),
        ("", "", "USD", "USD", "USD", "", ""),
    )  # fmt: skip
