"""What device-seconds cost in money, electricity and carbon."""

from __future__ import annotations

from sorano.plan.estimate import CASES, Range, Row, Table
from sorano.plan.facts import Fact, Facts, number
from sorano.plan.hardware import Device

JOULES_PER_KWH = 3.6e6


def costs(
    facts: Facts, device: Device, device_seconds: Range, *, usd_hour: float | None = None, grid: str = "world"
) -> tuple[list[Row], list[Fact]]:
    """Rows "usd", "kwh", "co2_g" of so many device-seconds, and the constants behind them.

    kWh = the share of TDP x TDP x device-seconds x what hosts, network and cooling add.
    """
    share, facility = facts.constant("energy.tdp"), facts.constant("energy.facility")
    carbon = facts.constant(f"grid.{grid}")
    rows: list[Row] = []
    used: list[Fact] = []
    price = device.price
    if usd_hour is not None:
        price = Fact("price.yours", usd_hour, usd_hour, usd_hour, "USD/h", "U", "", "given on the command line")
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
        bill = facts.constant("energy.usd_kwh")
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


def published_prices(facts: Facts, own_usd_per_second: Range | None) -> Table:
    """What services charge for a second of video, ours first."""
    rows: list[tuple[str, float | None, float | None, float | None, str]] = []
    if own_usd_per_second is not None:
        own = own_usd_per_second
        rows.append(("this plan: devices alone", own.low, own.default, own.high, ""))
    for row in facts.table("prices"):
        if "reported" not in row["name"]:
            low, high = (number(row, f"usd_s_{side}", "prices") for side in ("low", "high"))
            rows.append((row["title"], low, number(row, "usd_s", "prices"), high, f"{row['tag']}, {row['date']}"))
    return Table(
        "A second of video, beside published prices", ("service", "low", "typical", "high", "how known"), tuple(rows),
        ("", "USD", "USD", "USD", ""),
    )  # fmt: skip
