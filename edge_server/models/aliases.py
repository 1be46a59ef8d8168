"""Words that clients use for public pretrained models: ``yolov8n-640`` means ``coco/3``."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

_BOXES, _MASKS, _POSE = "coco", "coco-dataset-vdnr1", "coco-pose-detection"
_YOLO8, _YOLO11, _YOLO26 = ("yolov8",), ("yolov11", "yolo11"), ("yolov26", "yolo26")
_RFDETR = ("rfdetr-",)

# Prefixes, sizes, suffix, project, and its version for each size; as in the Roboflow client 1.8.
_FAMILIES = (
    (_YOLO8, "nsmlx", "-640", _BOXES, (3, 6, 8, 7, 5)),
    (_YOLO8, "nsmlx", "-1280", _BOXES, (9, 10, 11, 12, 13)),
    (("yolo-nas-",), "sml", "-640", _BOXES, (14, 15, 16)),
    (("yolov10",), "nsmblx", "-640", _BOXES, (19, 20, 21, 22, 23, 24)),
    (_YOLO11, "nsmlx", "-640", _BOXES, (25, 26, 27, 28, 29)),
    (_YOLO11, "nsmlx", "-1280", _BOXES, (30, 31, 32, 33, 34)),
    (_YOLO26, "nsmlx", "-640", _BOXES, (41, 42, 43, 44, 45)),
    (_RFDETR, ("base", "nano", "small", "medium", "large"), "", _BOXES, (36, 38, 39, 40, 50)),
    (_RFDETR, ("xlarge", "2xlarge"), "", _BOXES, (47, 48)),
    (_YOLO8, "nsmlx", "-seg-640", _MASKS, (2, 4, 5, 6, 3)),
    (_YOLO8, "nsmlx", "-seg-1280", _MASKS, (7, 8, 9, 10, 11)),
    (_YOLO11, "nsmlx", "-seg-640", _MASKS, (19, 20, 21, 22, 23)),
    (_YOLO26, "nsmlx", "-seg-640", _MASKS, (27, 28, 29, 31, 34)),
    (("rfdetr-seg-",), ("preview", "nano", "small", "medium"), "", _MASKS, (26, 41, 36, 37)),
    (("rfdetr-seg-",), ("large", "xlarge", "2xlarge"), "", _MASKS, (38, 39, 40)),
    (_YOLO8, "nsmlx", "-pose-640", _POSE, (1, 2, 3, 4, 5)),
    (_YOLO8, "x", "-pose-1280", _POSE, (6,)),
    (_YOLO26, "nsmlx", "-pose-640", _POSE, (12, 13, 14, 15, 16)),
    (("resnet",), ("18", "34", "50", "101"), "", "classifiers", (1, 2, 3, 4)),
)

ALIASES: Mapping[str, str] = MappingProxyType(
    {
        f"{prefix}{size}{suffix}": f"{project}/{version}"
        for prefixes, sizes, suffix, project, versions in _FAMILIES
        for prefix in prefixes
        for size, version in zip(sizes, versions, strict=True)
    }
    | {
        f"{prefix}{size}-sem-1024": f"yolo26-pretrains/yolo26{size}-sem"
        for prefix in _YOLO26
        for size in "nsmlx"
    }
    | {"rfdetr-keypoint-preview": "microsoft/coco-pose-detection-17-rfdetr-keypoint-preview-t1"}
)


def resolve_alias(model_id: str) -> str:
    """The model id that the alias ``model_id`` stands for; every other id stands for itself."""
    return ALIASES.get(model_id, model_id)
