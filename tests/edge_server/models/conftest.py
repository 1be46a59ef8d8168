"""Models imported into an empty folder."""

from __future__ import annotations

import pytest

from edge_server.models.identify import Hints
from edge_server.models.importing import import_model
from edge_server.models.package import read_package


@pytest.fixture
def target(tmp_path):
    folder = tmp_path / "target"
    folder.mkdir()
    return folder


def imported(source, target, *, task=None, family=None, classes=None):
    import_model(source, target, Hints(task, family, classes))
    return read_package(target, "x/1")
