"""What a scraper reads at ``GET /metrics``, with the parser that scrapers use."""

from __future__ import annotations

import math
import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from prometheus_client.parser import text_string_to_metric_families

from edge_server.ops.metrics import Metrics, ModelFacts

INFER = "/infer/object_detection"
MODEL = ModelFacts("demo-parts/1", "onnxruntime-cpu", 12_000_000, 0.25)


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def metrics(clock):
    return Metrics(clock)


def scraped(metrics, *models):
    text, content_type = metrics.render(models)
    assert content_type == "text/plain; version=1.0.0; charset=utf-8"
    names = re.findall(r"^# TYPE (\S+)", text.decode(), re.MULTILINE)
    assert len(names) == len(set(names))
    return list(text_string_to_metric_families(text.decode()))


def values(metrics, *models):
    """Values by name, or by name and label values in the order of their names."""
    return {
        (sample.name, *(text for _, text in sorted(sample.labels.items()))): sample.value
        for family in scraped(metrics, *models)
        for sample in family.samples
    }


def model(model_id):
    return MODEL._replace(model_id=model_id)


def test_the_families_are_those_that_dashboards_know(metrics):
    metrics.observe_request("POST", INFER, 200, 0.02, 1000, 50)
    kinds = {family.name: family.type for family in scraped(metrics, MODEL)}
    assert (
        kinds.items()
        >= {
            "http_requests": "counter",  # the parser leaves out _total
            "http_request_size_bytes": "summary",
            "http_response_size_bytes": "summary",
            "http_request_duration_seconds": "histogram",
            "http_request_duration_highr_seconds": "histogram",
            "num_inferences_total": "gauge",
            "avg_inference_time_total": "gauge",
            "num_errors_total": "gauge",
            "num_inferences_demo_parts_1": "gauge",
            "avg_inference_time_demo_parts_1": "gauge",
            "num_errors_demo_parts_1": "gauge",
            "edge_server_model_memory_bytes": "gauge",
            "edge_server_model_load_seconds": "gauge",
            "process_resident_memory_bytes": "gauge",
            "process_cpu_seconds": "counter",
            "python_info": "gauge",
        }.items()
    )


def test_requests_are_counted_by_method_group_of_statuses_and_handler(metrics):
    for method, status in [("POST", 200), ("POST", 204), ("POST", 413), ("GET", 200)]:
        metrics.observe_request(method, INFER, status, 0.02, 1000, 50)
    metrics.observe_request("POST", "none", 404, 0.02, 7, 8)
    found = values(metrics)
    assert found["http_requests_total", INFER, "POST", "2xx"] == 2
    assert found["http_requests_total", INFER, "POST", "4xx"] == 1
    assert found["http_requests_total", INFER, "GET", "2xx"] == 1
    assert found["http_requests_total", "none", "POST", "4xx"] == 1
    assert found["http_request_size_bytes_count", INFER] == 4
    assert found["http_request_size_bytes_sum", INFER] == 4000
    assert found["http_response_size_bytes_sum", "none"] == 8


def test_callers_cannot_fill_the_memory_with_methods(metrics):
    for number in range(100):
        metrics.observe_request(f"METHOD{number}", INFER, 405, 0.01, 0, 0)
    counts = {
        name: value for name, value in values(metrics).items() if name[0] == "http_requests_total"
    }
    assert counts == {("http_requests_total", INFER, "other", "4xx"): 100}


def test_durations_fall_into_the_buckets_that_hold_them(metrics):
    for seconds in (0.05, 0.1, 0.3, 1.0, 7.0):
        metrics.observe_request("POST", INFER, 200, seconds, 0, 0)
    found = values(metrics)
    coarse = [
        (name[2], value)
        for name, value in found.items()
        if name[:2] == ("http_request_duration_seconds_bucket", INFER)
    ]
    assert coarse == [("0.1", 2), ("0.5", 3), ("1.0", 4), ("+Inf", 5)]
    assert found["http_request_duration_seconds_count", INFER] == 5
    assert found["http_request_duration_seconds_sum", INFER] == pytest.approx(8.45)
    fine = [
        (float(name[1]), value)
        for name, value in found.items()
        if name[0] == "http_request_duration_highr_seconds_bucket"
    ]
    assert len(fine) > 20
    assert fine == sorted(fine)
    assert fine[-1] == (math.inf, 5)
    assert dict(fine)[0.25] == 2


def test_inferences_and_errors_are_told_for_ten_seconds(metrics, clock):
    metrics.observe_inference("demo-parts/1", 0.4, 4)
    metrics.observe_error("demo-parts/1")
    clock.now += 6
    metrics.observe_inference("demo-parts/1", 0.6, 1)
    metrics.observe_inference("not-loaded-any-more/1", 0.2, 1)
    found = values(metrics, MODEL)
    assert found["num_inferences_demo_parts_1",] == 5
    assert found["avg_inference_time_demo_parts_1",] == pytest.approx(0.2)
    assert found["num_errors_demo_parts_1",] == 1
    assert found["num_inferences_total",] == 6
    assert found["avg_inference_time_total",] == pytest.approx(0.2)
    clock.now += 6
    found = values(metrics, MODEL)
    assert found["num_inferences_demo_parts_1",] == 1
    assert found["num_errors_total",] == 0
    clock.now += 6
    found = values(metrics, MODEL)
    assert found["num_inferences_total",] == 0
    assert found["avg_inference_time_total",] == 0


def test_what_nobody_reads_is_forgotten_all_the_same(metrics, clock):
    for _ in range(1000):
        metrics.observe_inference("a/1", 0.1, 1)
        metrics.observe_error("a/1")
        clock.now += 1
    assert len(metrics.recent) <= 20


@pytest.mark.parametrize(
    ("model_ids", "family", "inferences"),
    [
        pytest.param(["a/1", "a_1", "a.1"], "num_inferences_a_1", 3, id="ids written alike"),
        pytest.param(["total", "b/1"], "num_inferences_total", 2, id="a model called total"),
    ],
)
def test_ids_that_are_written_alike_share_one_family(metrics, model_ids, family, inferences):
    for model_id in model_ids:
        metrics.observe_inference(model_id, 0.1, 1)
    found = values(metrics, *map(model, model_ids))
    assert found[family,] == inferences
    assert found["num_inferences_total",] == len(model_ids)


def test_at_most_25_models_have_families_of_their_own(metrics):
    models = [model(f"a/{number}") for number in range(40)]
    for one in models:
        metrics.observe_inference(one.model_id, 0.1, 1)
    found = values(metrics, *models)
    own = [name for (name, *_) in found if name.startswith("num_inferences_a_")]
    assert own == [f"num_inferences_a_{number}" for number in range(25)]
    assert found["num_inferences_total",] == 40


def test_a_model_tells_its_memory_and_how_long_it_loaded(metrics):
    found = values(metrics, MODEL)
    assert found["edge_server_model_memory_bytes", "onnxruntime-cpu", "demo-parts/1"] == 12_000_000
    assert found["edge_server_model_load_seconds", "demo-parts/1"] == 0.25


def test_nothing_is_lost_when_many_threads_count(metrics):
    def count(thread):
        for number in range(500):
            metrics.observe_request("GET", INFER, 200, 0.01, 1, 1)
            metrics.observe_inference("a/1", 0.01, 1)
            if thread == 0 and number % 50 == 0:
                metrics.render([])

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(count, range(4)))
    found = values(metrics)
    assert found["http_requests_total", INFER, "GET", "2xx"] == 2000
    assert found["num_inferences_total",] == 2000
