"""A resource is closed once, and only when its last user has left."""

from __future__ import annotations

import threading

import pytest

from edge_server.serving.shared import Shared, SharedClosedError


class Resource:
    def __init__(self):
        self.closed = 0

    def close(self):
        self.closed += 1


def test_an_unused_resource_is_closed_at_once_and_once():
    resource = Resource()
    shared = Shared(resource)
    shared.close()
    shared.close()
    assert resource.closed == 1


def test_a_used_resource_is_closed_when_the_last_user_leaves():
    resource = Resource()
    shared = Shared(resource)
    with shared.use() as first:
        with shared.use():
            shared.close()
            assert resource.closed == 0
        assert resource.closed == 0
        assert first is resource
    assert resource.closed == 1


def test_nobody_enters_after_close():
    shared = Shared(Resource())
    shared.close()
    with pytest.raises(SharedClosedError), shared.use():
        pass


def test_an_error_inside_the_lease_still_leaves():
    resource = Resource()
    shared = Shared(resource)
    with pytest.raises(ValueError, match="x"), shared.use():
        raise ValueError("x")
    shared.close()
    assert resource.closed == 1


def test_users_and_closers_race_without_double_close():
    for _ in range(50):
        resource = Resource()
        shared = Shared(resource)
        start = threading.Barrier(5)

        def use(shared=shared, resource=resource, start=start):
            start.wait()
            try:
                with shared.use():
                    assert resource.closed == 0
            except SharedClosedError:
                pass

        def close(shared=shared, start=start):
            start.wait()
            shared.close()

        threads = [threading.Thread(target=use) for _ in range(3)]
        threads += [threading.Thread(target=close) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert resource.closed == 1
