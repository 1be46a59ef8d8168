"""Models on disk: there completely or not at all, found by id, never outside their folder."""

from __future__ import annotations

import os

import pytest

from edge_server.errors import (
    ModelExistsError,
    ModelFailedError,
    ModelIdError,
    ModelNotFoundError,
    PackageError,
)
from edge_server.models.ids import check_model_id
from edge_server.models.store import ModelStore
from tests.networks import cells, head_rows, save_detector

DEMOS = [
    f"demo-{name}/1"
    for name in ("corrosion", "parts-seg", "parts", "surfaces", "trays", "wrenches")
]
ROWS = head_rows([[10, 10, 4, 4]], [[0.9, 0.1]], cells(64, 64))


@pytest.fixture
def store(tmp_path):
    return ModelStore(tmp_path / "models")


@pytest.fixture
def weights(tmp_path):
    return save_detector(tmp_path / "best.onnx", ROWS)


def install(store, model_id, weights, prove=lambda package: None):
    return store.install(model_id, weights, task=None, prove=prove)


@pytest.mark.parametrize("model_id", ["bolts/1", "my-team/my_model.v2", "single-word"])
def test_an_installed_model_is_found_listed_and_deleted(store, weights, model_id):
    installed = install(store, model_id, weights)
    assert store.find(model_id) == installed
    assert model_id in store.ids()
    assert not store.is_bundled(model_id)
    store.delete(model_id)
    assert model_id not in store.ids()
    with pytest.raises(ModelNotFoundError):
        store.find(model_id)


def test_a_word_and_a_project_of_the_same_name_do_not_clash(store, weights):
    install(store, "bolts", weights)
    install(store, "bolts/1", weights)
    store.delete("bolts")
    assert store.find("bolts/1").model_id == "bolts/1"


def test_an_alias_means_its_target_until_a_model_is_installed_under_that_word(store, weights):
    assert store.resolve("yolov8n-640") == "coco/3"
    install(store, "coco/3", weights)
    assert store.resolve("yolov8n-640") == "coco/3"
    install(store, "yolov8n-640", weights)
    assert store.resolve("yolov8n-640") == "yolov8n-640"
    assert store.resolve("yolov8s-640") == "coco/6"
    assert store.resolve("bolts/1") == "bolts/1"


def test_the_demo_models_are_there_from_the_start_and_stay(store):
    assert store.ids() == DEMOS
    assert store.is_bundled("demo-parts/1")
    assert store.find("demo-parts/1").class_names[0] == "washer"
    with pytest.raises(ModelNotFoundError, match="part of Edge Server"):
        store.delete("demo-parts/1")


def test_an_id_is_never_taken_twice(store, weights):
    install(store, "bolts/1", weights)
    for model_id in ("bolts/1", "demo-parts/1"):
        with pytest.raises(ModelExistsError, match="exists already"):
            install(store, model_id, weights)


def test_an_unknown_model_is_answered_with_those_that_are_there(store, weights):
    install(store, "bolts/1", weights)
    with pytest.raises(ModelNotFoundError, match=r"bolts/1, .*demo-parts/1.*\. Install it"):
        store.find("bolts/2")
    with pytest.raises(ModelNotFoundError):
        store.delete("bolts/2")


@pytest.mark.parametrize(
    "model_id",
    ["", "/", "a/", "/a", "a/b/c", "..", "../a", "a/..", ".", "a/.b", "a\\b", "a b", "@", "a/@",
     "a\0b", "ü/1", "a/1\n", "x" * 129],
)  # fmt: skip
def test_ids_that_could_leave_the_folder_are_refused(store, model_id):
    with pytest.raises(ModelIdError, match="is not valid"):
        check_model_id(model_id)
    for act in (store.find, store.delete):
        with pytest.raises(ModelIdError):
            act(model_id)


def test_a_model_that_fails_its_proof_is_not_installed(store, weights, tmp_path):
    def prove(package):
        raise ModelFailedError("does not run")

    with pytest.raises(ModelFailedError):
        install(store, "bolts/1", weights, prove)
    assert store.ids() == DEMOS
    assert os.listdir(tmp_path / "models" / "bolts") == []


def test_what_a_power_cut_left_is_never_listed_and_is_swept(store, weights, tmp_path):
    install(store, "bolts/1", weights)
    project = tmp_path / "models" / "bolts"
    (project / "1").rename(project / ".staging-abc")
    assert store.ids() == DEMOS
    store.sweep()
    assert os.listdir(project) == []


def test_a_damaged_package_says_which_file(store, weights, tmp_path):
    install(store, "bolts/1", weights)
    (tmp_path / "models" / "bolts" / "1" / "class_names.txt").write_text("\n")
    with pytest.raises(PackageError, match=r"class_names\.txt is empty"):
        store.find("bolts/1")


def test_sweeping_an_empty_data_directory_is_fine(store, tmp_path):
    store.sweep()
    assert not (tmp_path / "models").exists()
