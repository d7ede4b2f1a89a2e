"""`sorano plan serve`: how many devices a service needs for its waiting time, and what that costs.

Jobs arrive at random (Poisson) at the day's peak rate; each takes a service time S that hardly varies, for one video
has the shape of the next, and batching does not help video diffusion (ML.ENERGY: 1.01x from batch 1 to 8). With c
pipelines and an offered load of a = rate x S:

    P(wait > w) = ErlangC(c, a) exp(-w (c - a) / S'),   S' = about S / 2

(Erlang 1917 for the chance to wait; half of the exponential's scale for constant service, with Cosmetatos' correction
for many pipelines.) The smallest c that keeps the chance within 1 - quantile is taken; `simulate` plays days of it.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from sorano.errors import RequestError
from sorano.extras import require
from sorano.plan.assumptions import Assumption, Assumptions, load_assumptions
from sorano.plan.estimate import CASES, Chart, Estimate, Range, Row, Table, duration, short, unique
from sorano.plan.flops import find_model
from sorano.plan.hardware import Device, find_device
from sorano.plan.inference import Placed, make_job, money_of, place, service_seconds
from sorano.plan.money import costs, per_second, published_prices

DAY = 86_400.0
PLAYED_JOBS = 120_000
MAX_PLAYED = 1_000_000
MONTH_DAYS = 365.25 / 12
MAX_LOAD = 1e6  # pipelines
DRAWN = 60  # points of the curve


@dataclass(frozen=True)
class Queue:
    """A service at its peak: `pipelines` serve jobs of `service` seconds that come `rate` a second."""

    rate: float
    service: float
    pipelines: int
    cv2: float = 0.0  # squared coefficient of variation of the service time

    @property
    def load(self) -> float:
        """a, the pipelines that are busy on average."""
        return self.rate * self.service

    @property
    def wait_chance(self) -> float:
        """That a job waits at all."""
        return erlang_c(self.pipelines, self.load)

    @property
    def decay_seconds(self) -> float:
        """The scale of the waiting time of those that wait; longer than half of the exponential's where service is
        constant and pipelines are many (Cosmetatos 1976, through Kimura's interpolation)."""
        c, busy = self.pipelines, self.load / self.pipelines
        constant = 1 + (1 - busy) * (c - 1) * (math.sqrt(4 + 5 * c) - 2) / (16 * busy * c)
        return self.service / (c - self.load) * ((1 - self.cv2) * constant / 2 + self.cv2)

    @property
    def mean_wait(self) -> float:
        """Seconds, over all jobs."""
        return self.wait_chance * self.decay_seconds

    def late_chance(self, wait: float) -> float:
        """That a job waits longer than `wait` seconds."""
        return self.wait_chance * math.exp(-wait / self.decay_seconds)

    def wait_at(self, quantile: float) -> float:
        """Seconds within which this share of jobs begins."""
        if self.wait_chance <= 1 - quantile:
            return 0.0
        return self.decay_seconds * math.log(self.wait_chance / (1 - quantile))


def erlang_c(servers: int, load: float) -> float:
    """The chance that all of `servers` are busy, for an offered load in erlangs below their number.

    1 / ErlangB = 1 + c / a + c (c - 1) / a^2 + ..., whose terms fall quickly where many servers are nearly all busy.
    """
    if load <= 0:
        return 0.0
    if load >= servers:
        return 1.0
    term = unblocked = 1.0
    for count in range(servers, 0, -1):
        term *= count / load
        unblocked += term
        if unblocked > 1e30:
            return 0.0
        if term < 1e-17 * unblocked:
            break
    return 1 / (unblocked - load / servers * (unblocked - 1))


def smallest(rate: float, service: float, wait: float, quantile: float, cv2: float = 0.0) -> Queue:
    """The fewest pipelines with which at most 1 - quantile of the jobs wait longer than `wait` seconds."""
    low = math.floor(rate * service) + 1
    high = low
    while Queue(rate, service, high, cv2).late_chance(wait) > 1 - quantile:
        high = low + 2 * (high - low) + 1
    while low < high:
        middle = (low + high) // 2
        if Queue(rate, service, middle, cv2).late_chance(wait) > 1 - quantile:
            low = middle + 1
        else:
            high = middle
    return Queue(rate, service, low, cv2)


def plan_serve(
    model: str,
    *,
    per_day: float,
    peak: float = 2.5,
    wait: float = 60.0,
    quantile: float = 0.95,
    device: str = "h100",
    count: int = 1,
    stack: str | None = None,
    size: str | None = None,
    seconds: float | None = None,
    num_steps: int | None = None,
    usd_hour: float | None = None,
    grid: str = "world",
    service: float | None = None,
    play_a_day: bool = False,
    assumptions: Assumptions | None = None,
) -> Estimate:
    """Devices, waiting time, utilisation and cost of a service.

    `per_day` videos, `peak` times the average in the busiest hour; `quantile` of them begin within `wait` seconds.
    `count` devices make one video together. `service` overrides the seconds that one takes; `play_a_day` simulates.
    """
    assumptions = assumptions or load_assumptions()
    _check_numbers(per_day=per_day, peak=peak, wait=wait, quantile=quantile, count=count, service=service)
    where = find_device(assumptions, device)
    used: list[Assumption] = []
    job = make_job(find_model(assumptions, model), size=size, seconds=seconds, num_steps=num_steps)
    overhead = assumptions.constant("serve.overhead_s")
    takes = service_seconds(assumptions, job, where, count, stack, used)
    takes = Range(*(getattr(takes, case) + overhead.at(case) for case in CASES))
    if service is not None:
        takes = Range(service, service, service)
    used.append(overhead)
    demand = Demand(per_day, peak, wait, quantile, takes)
    placed = place(assumptions, job, where, None, count, None, used)
    chosen = demand.queue()
    devices = Range(*(demand.queue(case).pipelines * count for case in CASES))
    money, more = _money(assumptions, where, demand, devices, count, job.seconds, usd_hour=usd_hour, grid=grid)
    used += more
    price = usd_hour or (where.price.value if where.price else None)
    return Estimate(
        title=f"Serve {short(per_day)} videos a day: {duration(job.seconds)} of {job.shape.size} by {job.model.title}",
        summary=f"{devices.default:,.0f} x {where.title}, {chosen.load / chosen.pipelines:.0%} busy at the peak"
        + ("" if placed.fits else f"; but one video takes {placed.words}"),
        rows=_rows(demand, chosen, where, devices, count),
        assumptions=unique(used),
        tables=(
            _other_volumes(demand, count, price),
            published_prices(assumptions, money_of(money, "always_on_usd_per_video_second")),
        ),
        charts=(_wait_chart(demand, chosen, count),),
        notes=_notes(placed, where, play_a_day),
        parts=(
            ("Memory of a device", placed.rows),
            ("A simulated day", _played_day(demand, chosen) if play_a_day else ()),
            ("Money and energy", tuple(money)),
        ),
    )


@dataclass(frozen=True)
class Demand:
    """What is asked of a service, and how long one video takes it."""

    per_day: float  # videos
    peak: float  # the busiest hour over the average
    wait: float  # seconds within which ...
    quantile: float  # ... this share of videos begins
    service: Range  # seconds of one video on its devices

    def __post_init__(self) -> None:
        if self.rate * self.service.high > MAX_LOAD:
            raise RequestError(
                f"{self.rate * self.service.high:,.0f} videos would be made at once, and a plan has at most "
                f"{MAX_LOAD:,.0f}",
                "ask for fewer a day, shorter or smaller ones",
            )

    @property
    def rate(self) -> float:
        """Videos a second at the peak."""
        return self.per_day * self.peak / DAY

    def queue(self, case: str = "default", factor: float = 1.0) -> Queue:
        """The smallest service for `factor` times as many videos."""
        return smallest(self.rate * factor, getattr(self.service, case), self.wait, self.quantile)


def _check_numbers(**given: float | None) -> None:
    """Raises RequestError for a number that makes no service; None is left to its default."""
    bounds = {
        "per_day": (1e-3, 1e10),
        "peak": (1.0, 100.0),
        "wait": (0.0, 1e7),
        "quantile": (0.01, 0.9999),
        "count": (1, 100_000),
        "service": (1e-3, 1e7),
    }
    for name, value in given.items():
        low, high = bounds[name]
        if value is not None and not low <= value <= high:
            raise RequestError(f"{name} is {value:g}, and must be {low:g} to {high:g}")


def _rows(demand: Demand, chosen: Queue, device: Device, devices: Range, count: int) -> tuple[Row, ...]:
    """Devices, utilisation and waiting times."""
    within = f"{100 * demand.quantile:g} % begin within it; asked: {demand.wait:g} s"
    return (
        Row("devices", devices, device.title, f"{chosen.pipelines} pipelines of {count}"),
        Row("service_seconds", demand.service, "s", "one video, without waiting"),
        Row("load", chosen.load, "pipelines busy at the peak", "arrivals x service time"),
        Row("utilisation_peak", chosen.load / chosen.pipelines, "%", ""),
        Row("utilisation_day", chosen.load / demand.peak / chosen.pipelines, "%", "averaged over the day"),
        Row("mean_wait_seconds", chosen.mean_wait, "s", "at the peak"),
        Row("mean_wait_of_day_seconds", mean_wait_of_day(chosen, demand.peak), "s", "over all videos of a day"),
        Row("wait_at_quantile", chosen.wait_at(demand.quantile), "s", within),
    )


def _money(
    assumptions: Assumptions,
    device: Device,
    demand: Demand,
    devices: Range,
    count: int,
    video_seconds: float,
    *,
    usd_hour: float | None,
    grid: str,
) -> tuple[list[Row], list[Assumption]]:
    """Money and energy of a video, of a month and of a second of video, with all devices always on and as a floor."""
    on_seconds = Range(*(getattr(devices, case) * DAY for case in CASES))
    busy_seconds = Range(*(demand.per_day * getattr(demand.service, case) * count for case in CASES))
    always, used = costs(assumptions, device, on_seconds, usd_hour=usd_hour, grid=grid)
    scaled, _ = costs(assumptions, device, busy_seconds, usd_hour=usd_hour, grid=grid)
    rows: list[Row] = []
    for kind, found, why in (
        ("always_on", always, "the peak's devices all day"),
        ("autoscaled", scaled, "busy seconds only: the floor"),
    ):
        for row in found:
            if row.name in ("usd", "kwh", "co2_g") and isinstance(row.value, Range):
                each = Range(*(getattr(row.value, case) / demand.per_day for case in CASES))
                idle = ", as if busy all of it" if kind == "always_on" and row.name != "usd" else ""
                rows.append(Row(f"{kind}_{row.name}_per_video", each, row.unit, why + idle))
    monthly = {"usd": "usd_month", "kwh": "kwh_month", "co2_g": "co2_month_g"}
    for found, ending, why in ((always, "", "the peak's devices all month"), (scaled, "_floor", "busy seconds only")):
        for row in found:
            if row.name in monthly and isinstance(row.value, Range):
                total = Range(*(getattr(row.value, case) * MONTH_DAYS for case in CASES))
                rows.append(Row(monthly[row.name] + ending, total, row.unit, f"{MONTH_DAYS:.1f} days; {why}"))
    rows += [per_second(row, video_seconds) for row in rows if row.name.startswith("always_on")]
    return rows, used


def _other_volumes(demand: Demand, count: int, price: float | None) -> Table:
    """The same service for a tenth and for ten times as many videos."""
    rows = []
    for factor in (0.1, 1.0, 10.0):
        queue = demand.queue(factor=factor)
        usd = price * queue.pipelines * count * 24 / demand.per_day / factor if price else None
        used = queue.load / queue.pipelines
        rows.append((demand.per_day * factor, queue.pipelines * count, used, queue.mean_wait, usd))
    return Table(
        "Other volumes",
        ("a day", "devices", "busy at peak", "mean wait", "always on, a video"),
        tuple(rows),
        ("", "", "%", "s", "USD"),
    )


def _wait_chart(demand: Demand, chosen: Queue, count: int) -> Chart:
    """The waiting time with fewer and with more devices than are chosen."""
    fewest = math.floor(chosen.load) + 1
    most = max(chosen.pipelines + 6, math.ceil(1.3 * chosen.pipelines))
    curve = tuple(
        (float(c * count), replace(chosen, pipelines=c).wait_at(demand.quantile))
        for c in range(fewest, most, math.ceil((most - fewest) / DRAWN))
    )
    title = f"Waiting time of {100 * demand.quantile:g} %"
    return Chart(title, "devices", "seconds", (("wait", curve),), log=False)


def _played_day(demand: Demand, chosen: Queue) -> tuple[Row, ...]:
    """What a simulation of the chosen service gives. Raises RequestError where a day has too many videos."""
    if demand.per_day > MAX_PLAYED:
        raise RequestError(f"a day of {demand.per_day:,.0f} videos is too long to play: at most {MAX_PLAYED:,}")
    days = min(1000.0, PLAYED_JOBS / (demand.rate * DAY))
    at_peak = simulate(chosen, demand.wait, days=days)
    whole = simulate(chosen, demand.wait, days=max(1.0, round(days)), peak=demand.peak, profile=True)
    late = f"waited longer than {demand.wait:g} s; planned {1 - demand.quantile:.3g}"
    busy = f"{whole.jobs:,} jobs, days with their highs and lows"
    return (
        Row("simulated_mean_wait", at_peak.mean_wait, "s", f"{at_peak.jobs:,} jobs, all hours as busy as the peak"),
        Row("simulated_late_share", at_peak.late_share, "%", late),
        Row("simulated_mean_wait_of_day", whole.mean_wait, "s", ""),
        Row("simulated_utilisation", whole.utilisation, "%", busy),
    )


def _notes(placed: Placed, device: Device, is_played: bool) -> tuple[str, ...]:
    notes = [] if placed.fits else [f"it does not fit: {placed.rows[-1].value}"]
    if placed.run is not None and placed.run.placement.in_turn:
        notes.append(
            f"the weights are more than stays on {device.title}: loading them for each video is not in the time"
        )
    notes.append("autoscaling approaches the floor as far as devices start within the waiting time")
    return (*notes, *(() if is_played else ("--simulate plays a day, job by job",)))


@dataclass(frozen=True)
class Simulated:
    """What a simulated day gave."""

    jobs: int
    mean_wait: float
    late_share: float  # that waited longer than asked
    utilisation: float


def simulate(
    queue: Queue, wait: float, *, seed: int = 0, days: float = 1.0, peak: float = 1.0, profile: bool = False
) -> Simulated:
    """A day of the service, job by job (SimPy). Without `profile` the peak lasts all day; with it the rate follows a
    cosine over the day, from the peak down to what keeps the average at rate / peak.

    Raises RequestError where SimPy is not installed.
    """
    require("simulating a day", "plan")
    import random

    import simpy

    draw = random.Random(seed)
    environment = simpy.Environment()
    pipelines = simpy.Resource(environment, capacity=queue.pipelines)
    waits: list[float] = []
    busy = 0.0

    def one() -> Generator[Any, Any, None]:
        nonlocal busy
        came = environment.now
        with pipelines.request() as turn:
            yield turn
            waits.append(environment.now - came)
            spread = math.sqrt(queue.cv2)
            takes = max(0.0, draw.gauss(queue.service, spread * queue.service)) if spread else queue.service
            busy += takes
            yield environment.timeout(takes)

    def arrivals() -> Generator[Any, Any, None]:
        while True:
            comes = environment.now + draw.expovariate(queue.rate)
            while profile and draw.random() >= share_of_peak(comes / DAY, peak):  # thinned below the peak
                comes += draw.expovariate(queue.rate)
            yield environment.timeout(comes - environment.now)
            environment.process(one())

    environment.process(arrivals())
    environment.run(until=days * DAY)
    late = sum(1 for waited in waits if waited > wait)
    return Simulated(
        len(waits),
        sum(waits) / max(1, len(waits)),
        late / max(1, len(waits)),
        busy / (days * DAY * queue.pipelines),
    )


def mean_wait_of_day(queue: Queue, peak: float, moments: int = 480) -> float:
    """Seconds, over the jobs of a day that follows `share_of_peak`: each moment as if it lasted."""
    waited = came = 0.0
    for moment in range(moments):
        share = share_of_peak((moment + 0.5) / moments, peak)
        if share > 1e-6:
            waited += share * replace(queue, rate=queue.rate * share).mean_wait
            came += share
    return waited / came


def share_of_peak(day: float, peak: float) -> float:
    """The rate at a moment of the day over the peak's: a cosine to a power that keeps the average at 1 / peak."""
    mean = 1 / peak
    if mean >= 0.5:
        return (
            (1 - mean) * (2 * abs(math.cos(math.pi * day)) ** 2 - 1) + mean
            if mean > 0.5
            else math.cos(math.pi * day) ** 2
        )
    power = _power_of_mean(round(mean, 4))
    return abs(math.cos(math.pi * day)) ** power


@cache
def _power_of_mean(mean: float) -> float:
    """p such that |cos| ** p averages to `mean`: Gamma((p + 1) / 2) / (sqrt(pi) Gamma(p / 2 + 1))."""
    low, high = 0.0, 1e6
    for _ in range(80):
        middle = (low + high) / 2
        average = math.exp(math.lgamma((middle + 1) / 2) - math.lgamma(middle / 2 + 1)) / math.sqrt(math.pi)
        low, high = (middle, high) if average > mean else (low, middle)
    return low
