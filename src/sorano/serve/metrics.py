"""What Prometheus reads at /metrics: requests of this server, and the queue and the workers of the whole database."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from prometheus_client import Gauge
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sorano.serve.database import deliveries, workers
from sorano.web.metrics import HttpMetrics

if TYPE_CHECKING:
    from sorano.serve.jobs import Jobs

# sums over finished jobs that each worker keeps, and what they are called
SUMS = {
    "jobs": ("sorano_jobs_made", "videos made"),
    "video_seconds": ("sorano_video_seconds", "seconds of video made"),
    "device_seconds": ("sorano_device_seconds", "seconds that devices worked"),
    "queue_seconds": ("sorano_queue_wait_seconds", "seconds that finished jobs had waited"),
    "denoise_seconds": ("sorano_denoise_seconds", "seconds in denoising steps"),
    "decode_seconds": ("sorano_decode_seconds", "seconds in the decoder"),
    "film_seconds": ("sorano_film_seconds", "seconds of films, denoised and decoded in windows"),
    "load_seconds": ("sorano_load_seconds", "seconds of loading models"),
    "mark_seconds": ("sorano_mark_seconds", "seconds of marking, writing, signing and reading back"),
}


class Metrics(HttpMetrics):
    """The metrics of one server."""

    def __init__(self, jobs: Jobs) -> None:
        super().__init__()
        self.listeners = Gauge("sorano_event_listeners", "Clients that listen to events", registry=self.registry)
        self.registry.register(_Shared(jobs))


class _Shared(Collector):
    """What is read from the database when it is asked for."""

    def __init__(self, jobs: Jobs) -> None:
        self.jobs = jobs

    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
        states = GaugeMetricFamily("sorano_jobs", "Jobs by status", labels=["status"])
        for status, count in self.jobs.counts().items():
            states.add_metric([status], count)
        yield states
        with self.jobs.database.read() as connection:
            found = list(connection.execute(sa.select(workers.c.id, workers.c.state, workers.c.metrics)))
            waiting = connection.execute(
                sa.select(sa.func.count()).where(deliveries.c.next_at.is_not(None))
            ).scalar_one()
        yield GaugeMetricFamily("sorano_webhooks_waiting", "Webhooks to be sent", value=waiting)
        yield GaugeMetricFamily("sorano_workers", "Workers that were seen lately", value=len(found))
        peaks = GaugeMetricFamily("sorano_worker_peak_bytes", "Most memory of one job", labels=["worker"])
        for name, _, told in found:
            peaks.add_metric([name], _number(told, "peak_bytes"))
        yield peaks
        for key, (name, about) in SUMS.items():
            family = CounterMetricFamily(name, about, labels=["worker"])
            for worker, _, told in found:
                family.add_metric([worker], _number(told, key))
            yield family


def _number(told: Any, name: str) -> float:
    return float((told or {}).get(name, 0.0))
