"""An alias means the same model here and in the clients."""

from __future__ import annotations

import pytest

from edge_server.models.aliases import ALIASES, resolve_alias
from edge_server.models.ids import check_model_id

NOT_SERVED = ("paligemma-", "florence-", "qwen", "-depth-768")


@pytest.mark.parametrize(
    ("model_id", "meant"),
    [
        pytest.param("yolov8n-640", "coco/3", id="detection"),
        pytest.param("yolo11x-seg-640", "coco-dataset-vdnr1/23", id="masks, short prefix"),
        pytest.param("yolov26l-pose-640", "coco-pose-detection/15", id="keypoints, long prefix"),
        pytest.param("resnet101", "classifiers/4", id="classification"),
        pytest.param("yolo26m-sem-1024", "yolo26-pretrains/yolo26m-sem", id="semantic"),
        pytest.param("rfdetr-large", "coco/50", id="rfdetr"),
        pytest.param("coco/3", "coco/3", id="a target"),
        pytest.param("YOLOv8n-640", "YOLOv8n-640", id="another case"),
        pytest.param("yolo11n-pose-640", "yolo11n-pose-640", id="never published"),
    ],
)
def test_an_alias_means_one_model_and_any_other_id_itself(model_id, meant):
    assert resolve_alias(model_id) == meant


def test_the_table_is_the_clients_own_for_the_tasks_served(ask):
    table = ask("aliases")
    assert ALIASES == {
        alias: target
        for alias, target in table.items()
        if not any(part in alias for part in NOT_SERVED)
    }


def test_targets_are_model_ids_and_no_aliases():
    for target in ALIASES.values():
        assert check_model_id(target) == target
        assert target not in ALIASES
