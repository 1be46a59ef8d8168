"""Models are loaded once, used by many, removed under them, and never block the registry."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from edge_server.errors import (
    BusyError,
    EngineGoneError,
    ModelFailedError,
    ModelNotFoundError,
    PackageError,
)
from edge_server.serving.pool import ModelPool


def loaded(pool):
    return [state.model for state in pool.states() if state.model]


class LoadedModel:
    """Stands for a loaded model: the pool only ever closes it."""

    def __init__(self, model_id):
        self.model_id = model_id
        self.package = SimpleNamespace(model_id=model_id)
        self.closed = 0

    def close(self):
        self.closed += 1


class Loader:
    """Loads instantly, or when told to."""

    def __init__(self):
        self.calls = []
        self.models = []
        self.gate = threading.Event()
        self.gate.set()
        self.error = None

    def __call__(self, model_id):
        self.calls.append(model_id)
        assert self.gate.wait(20)
        if self.error:
            raise self.error
        self.models.append(LoadedModel(model_id))
        return self.models[-1]


@pytest.fixture
def loader():
    return Loader()


@pytest.fixture
def pool(loader):
    return ModelPool(loader)


def in_background(function):
    thread = threading.Thread(target=function)
    thread.start()
    return thread


def wait_for(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_concurrent_first_requests_load_a_model_once(pool, loader):
    loader.gate.clear()
    with ThreadPoolExecutor(8) as threads:

        def ask():
            with pool.lease("a/1") as lease:
                return lease

        answers = [threads.submit(ask) for _ in range(8)]
        wait_for(lambda: loader.calls)
        loader.gate.set()
        leases = [answer.result() for answer in answers]
    assert {id(lease.model) for lease in leases} == {id(loader.models[0])}
    assert sum(lease.load_s > 0 for lease in leases) == 1  # whoever waited loaded nothing
    assert loader.calls == ["a/1"]


def test_the_registry_answers_while_a_model_loads(pool, loader):
    pool.add("a/1")
    loader.gate.clear()
    thread = in_background(lambda: pool.add("b/1"))
    wait_for(lambda: len(loader.calls) == 2)
    assert [model.model_id for model in loaded(pool)] == ["a/1"]
    loader.gate.set()
    thread.join()
    assert [model.model_id for model in loaded(pool)] == ["a/1", "b/1"]


def test_an_alias_and_its_target_are_one_model_listed_under_the_target(pool, loader):
    with pool.lease("yolov8n-640", path="/infer/object_detection") as (model, load_s):
        assert load_s > 0
    assert pool.add("coco/3", path="/coco/3") == 0
    assert loader.calls == ["coco/3"]
    (state,) = pool.states()
    assert (state.model_id, state.model) == ("coco/3", model)
    assert state.aliases == ("yolov8n-640",)
    assert state.paths == ("/coco/3", "/infer/object_detection")
    pool.remove("yolov8n-640")
    assert pool.states() == []


def test_whoever_makes_the_pool_decides_what_an_id_means(loader):
    pool = ModelPool(loader, resolve=str.lower)
    pool.add("A/1")
    assert loader.calls == ["a/1"]
    assert pool.states()[0].aliases == ("A/1",)


def test_callers_cannot_fill_the_memory_with_paths(pool):
    for number in range(1000):
        pool.add("a/1", path=f"/{number}")
    assert 1 < len(pool.states()[0].paths) < 100


def test_a_state_tells_how_long_ago_a_model_was_loaded_and_used(pool, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    pool.add("a/1")
    now[0] += 60
    with pool.lease("a/1"):
        now[0] += 5
    (state,) = pool.states()
    assert (state.state, state.age_s, state.idle_s) == ("loaded", 65, 5)
    assert state.load_s > 0


def test_a_model_is_loading_then_failed_then_loaded(pool, loader):
    loader.gate.clear()
    loader.error = ModelFailedError("Model a/1 cannot be loaded: no memory.")
    thread = in_background(lambda: pytest.raises(ModelFailedError, pool.add, "a/1"))
    wait_for(lambda: loader.calls)
    assert [(state.state, state.model) for state in pool.states()] == [("loading", None)]
    loader.gate.set()
    thread.join()
    (state,) = pool.states()
    assert (state.model_id, state.state) == ("a/1", "failed")
    assert state.error == "Model a/1 cannot be loaded: no memory."
    loader.error = None
    pool.add("a/1")
    assert [state.state for state in pool.states()] == ["loaded"]


@pytest.mark.parametrize("forget", [lambda pool: pool.remove("a/1"), lambda pool: pool.clear()])
def test_a_failure_is_forgotten_with_its_model(pool, loader, forget):
    loader.error = PackageError("damaged")
    with pytest.raises(PackageError):
        pool.add("a/1")
    forget(pool)
    assert pool.states() == []


def test_failures_that_are_remembered_are_few_and_of_models_that_exist(pool, loader):
    loader.error = ModelNotFoundError("not installed")
    with pytest.raises(ModelNotFoundError):
        pool.add("nothing/1")
    assert pool.states() == []
    loader.error = ModelFailedError("broken")
    for number in range(1000):
        with pytest.raises(ModelFailedError):
            pool.add(f"a/{number}")
    remembered = [state.model_id for state in pool.states()]
    assert 1 < len(remembered) < 100
    assert remembered[-1] == "a/999"


def test_a_failed_load_is_told_and_tried_again_later(pool, loader):
    loader.error = ModelFailedError("broken")
    with pytest.raises(ModelFailedError, match="broken"):
        pool.add("a/1")
    assert loaded(pool) == []
    loader.error = None
    pool.add("a/1")
    assert loader.calls == ["a/1", "a/1"]


def test_a_failed_load_reaches_everybody_who_waits(pool, loader):
    loader.gate.clear()
    loader.error = ModelNotFoundError("no such model")
    with ThreadPoolExecutor(4) as threads:
        answers = [threads.submit(pool.add, "a/1") for _ in range(4)]
        wait_for(lambda: loader.calls)
        loader.gate.set()
        for answer in answers:
            with pytest.raises(ModelNotFoundError):
                answer.result()


def test_waiting_for_a_load_ends_with_busy(loader):
    pool = ModelPool(loader, load_wait_s=0.05)
    loader.gate.clear()
    thread = in_background(lambda: pool.add("a/1"))
    wait_for(lambda: loader.calls)
    with pytest.raises(BusyError, match="a/1 is still loading"):
        pool.add("a/1")
    loader.gate.set()
    thread.join()


def test_a_removed_model_is_closed_after_its_last_request(pool, loader):
    with pool.lease("a/1"):
        pool.remove("a/1")
        assert loaded(pool) == []
        assert loader.models[0].closed == 0
    assert loader.models[0].closed == 1


def test_a_model_removed_while_it_loads_is_closed(pool, loader):
    loader.gate.clear()
    thread = in_background(lambda: pool.add("a/1"))
    wait_for(lambda: loader.calls)
    pool.remove("a/1")
    loader.gate.set()
    thread.join()
    wait_for(lambda: loader.models[0].closed == 1)
    assert loaded(pool) == []


def test_a_removed_model_is_loaded_again_on_demand(pool, loader):
    pool.add("a/1")
    pool.clear()
    with pool.lease("a/1") as (model, load_s):
        assert model is loader.models[1]
        assert load_s > 0


def test_removing_what_is_not_loaded_is_fine(pool):
    pool.remove("never/1")
    pool.clear()


def test_requests_and_removals_race_without_error(pool, loader):
    stop = threading.Event()

    def remove():
        while not stop.is_set():
            pool.remove("a/1")

    def use():
        for _ in range(300):
            with pool.lease("a/1") as (model, _):
                assert model.closed == 0

    remover = in_background(remove)
    try:
        with ThreadPoolExecutor(4) as threads:
            for done in [threads.submit(use) for _ in range(4)]:
                done.result()
    finally:
        stop.set()
        remover.join()
    pool.clear()
    assert all(model.closed == 1 for model in loader.models)


def test_a_replaced_model_is_closed_after_its_last_request(pool, loader):
    with pool.lease("a/1", path="/here") as (old, _):
        new = loader("a/1")
        assert pool.replace(old, new)
        assert not old.closed
        with pool.lease("a/1") as (model, load_s):
            assert (model, load_s) == (new, 0.0)
    assert old.closed
    (state,) = pool.states()
    assert (state.model, state.paths) == (new, ("/here",))


def test_nothing_replaces_a_model_that_is_in_use_no_more(pool, loader):
    with pool.lease("a/1") as (old, _):
        pool.remove("a/1")
        late = loader("a/1")
        assert not pool.replace(old, late)
        assert late.closed
    assert pool.states() == []


def test_to_peek_is_no_request(pool):
    with pool.peek("a/1") as model:
        assert model is None
    assert pool.states() == []
    pool.add("a/1")
    with pool.peek("a/1") as model:
        pool.remove("a/1")
        assert not model.closed
    assert model.closed


def test_a_model_that_lost_its_engine_is_loaded_again_once(loader):
    told = []
    pool = ModelPool(loader, gone=told.append)

    def lose(between=lambda: None):
        with pool.lease("a/1"):
            between()
            raise EngineGoneError("no GPU")

    def lose_inside():
        with pytest.raises(EngineGoneError):
            lose()

    with pytest.raises(EngineGoneError):
        lose(between=lose_inside)
    assert told == ["no GPU", "no GPU"]
    first, second = loader.models
    assert (first.closed, second.closed) == (1, 0)
    assert loaded(pool) == [second]
