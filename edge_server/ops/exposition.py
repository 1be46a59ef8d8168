"""Metrics in Prometheus' text format, under the names that Roboflow's inference server uses."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from prometheus_client import (
    GC_COLLECTOR,
    PLATFORM_COLLECTOR,
    PROCESS_COLLECTOR,
    Metric,
    generate_latest,
)
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    SummaryMetricFamily,
)

from edge_server.ops.metrics import RECENT_S, Event, Histogram, Metrics, ModelFacts

# Each model has three families of its own, and scrapers keep every family they ever saw.
_MAX_MODELS = 25
_TOTAL = "total"


def write(families: Iterable[Metric]) -> bytes:
    """The text of ``families``, and of the standard ones about this process and its Python."""
    standard = (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR)
    return generate_latest(
        _Collected([*families, *(family for one in standard for family in one.collect())])
    )


@dataclass(frozen=True)
class _Collected:
    """Families in the form that ``generate_latest`` takes."""

    families: Sequence[Metric]

    def collect(self) -> Sequence[Metric]:
        return self.families


def families(metrics: Metrics, models: Sequence[ModelFacts]) -> Iterator[Metric]:
    """Everything in ``metrics``, and about ``models``."""
    yield from _requests(metrics)
    yield from _recent(metrics.recent, models)
    memory = GaugeMetricFamily(
        "edge_server_model_memory_bytes", "Bytes a model holds.", labels=("model", "engine")
    )
    loading = GaugeMetricFamily(
        "edge_server_model_load_seconds", "Seconds a model took to load.", labels=("model",)
    )
    upgrade = GaugeMetricFamily(
        "edge_server_model_upgrade",
        "1 for the state of a model on its way to TensorRT: waiting, building or refused.",
        labels=("model", "state"),
    )
    for model in models:
        memory.add_metric((model.model_id, model.engine), model.nbytes)
        loading.add_metric((model.model_id,), model.load_s)
        if model.upgrade:
            upgrade.add_metric((model.model_id, model.upgrade), 1)
    yield from (memory, loading, upgrade)


def _requests(metrics: Metrics) -> Iterator[Metric]:
    requests = CounterMetricFamily(
        "http_requests_total", "Requests answered.", labels=("method", "status", "handler")
    )
    for labels, count in metrics.requests.items():
        requests.add_metric(labels, count)
    by = ("handler",)
    received = SummaryMetricFamily("http_request_size_bytes", "Bytes of bodies.", labels=by)
    sent = SummaryMetricFamily("http_response_size_bytes", "Bytes of answers.", labels=by)
    seconds = HistogramMetricFamily("http_request_duration_seconds", "Seconds taken.", labels=by)
    for handler, totals in metrics.handlers.items():
        count = sum(totals.seconds.counts)
        received.add_metric((handler,), count, totals.received)
        sent.add_metric((handler,), count, totals.sent)
        seconds.add_metric((handler,), _buckets(totals.seconds), totals.seconds.sum)
    yield from (requests, received, sent, seconds)
    yield HistogramMetricFamily(
        "http_request_duration_highr_seconds",
        "Seconds taken, in finer steps.",
        buckets=_buckets(metrics.seconds),
        sum_value=metrics.seconds.sum,
    )


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    """Each bound as Prometheus writes it, with the count of all values up to it."""
    names = [str(bound) if bound != float("inf") else "+Inf" for bound in histogram.bounds]
    return list(zip(names, accumulate(histogram.counts), strict=True))


@dataclass
class _Sums:
    images: int = 0
    seconds: float = 0.0
    errors: int = 0


def _recent(events: Iterable[Event], models: Sequence[ModelFacts]) -> Iterator[Metric]:
    """Gauges over the last seconds: of everything, and of each model in memory.

    Ids that are written alike share their gauges, and the totals are never a model's.
    """
    names = {model.model_id: re.sub(r"[^A-Za-z0-9]", "_", model.model_id) for model in models}
    kept = list(dict.fromkeys(names.values()))[:_MAX_MODELS]
    sums = {name: _Sums() for name in (_TOTAL, *kept)}
    for event in events:
        for name in {_TOTAL, names.get(event.model_id, _TOTAL)} & sums.keys():
            sums[name].images += event.images
            sums[name].seconds += event.seconds
            sums[name].errors += event.errors
    when = f"in the last {RECENT_S:.0f} s."
    for name, total in sums.items():
        mean = total.seconds / max(total.images, 1)
        yield GaugeMetricFamily(f"num_inferences_{name}", f"Pictures {when}", total.images)
        yield GaugeMetricFamily(f"avg_inference_time_{name}", f"Seconds a picture {when}", mean)
        yield GaugeMetricFamily(f"num_errors_{name}", f"Errors {when}", total.errors)
