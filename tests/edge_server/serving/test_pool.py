"""Models are loaded once, used by many, removed under them, and never block the registry."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from edge_server.errors import BusyError, ModelFailedError, ModelNotFoundError
from edge_server.serving.pool import ModelPool


class LoadedModel:
    """Stands for a loaded model: the pool only ever closes it."""

    def __init__(self, model_id):
        self.model_id = model_id
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
            with pool.lease("a/1") as model:
                return model

        answers = [threads.submit(ask) for _ in range(8)]
        wait_for(lambda: loader.calls)
        loader.gate.set()
        assert {id(answer.result()) for answer in answers} == {id(loader.models[0])}
    assert loader.calls == ["a/1"]


def test_the_registry_answers_while_a_model_loads(pool, loader):
    pool.add("a/1")
    loader.gate.clear()
    thread = in_background(lambda: pool.add("b/1"))
    wait_for(lambda: len(loader.calls) == 2)
    assert [model.model_id for model in pool.loaded()] == ["a/1"]
    loader.gate.set()
    thread.join()
    assert [model.model_id for model in pool.loaded()] == ["a/1", "b/1"]


def test_a_failed_load_is_told_and_tried_again_later(pool, loader):
    loader.error = ModelFailedError("broken")
    with pytest.raises(ModelFailedError, match="broken"):
        pool.add("a/1")
    assert pool.loaded() == []
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
        assert pool.loaded() == []
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
    assert pool.loaded() == []


def test_a_removed_model_is_loaded_again_on_demand(pool, loader):
    pool.add("a/1")
    pool.clear()
    with pool.lease("a/1") as model:
        assert model is loader.models[1]


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
            with pool.lease("a/1") as model:
                assert model.closed == 0

    remover = in_background(remove)
    with ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(use) for _ in range(4)]:
            done.result()
    stop.set()
    remover.join()
    pool.clear()
    assert all(model.closed == 1 for model in loader.models)
