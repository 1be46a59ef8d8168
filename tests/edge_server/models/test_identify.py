"""Every layout is recognised, in every form; what can be two things is asked, never guessed."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edge_server.errors import PackageError
from tests.edge_server.models.conftest import imported
from tests.networks import (
    BY_NAME,
    COLOURS,
    KEYPOINT_NAMES,
    NETWORKS,
    RFDETR_BACKGROUND_FIRST,
    SIZE,
    save_constants,
    save_legacy_folder,
    save_package,
)

NAMES = {"names": str(list(COLOURS))}
CELLS = 84  # of a 64 x 64 picture
POSE = {"task": "pose", "kpt_shape": "[2, 3]", **NAMES}

each_network = pytest.mark.parametrize(
    "network", NETWORKS, ids=[network.name for network in NETWORKS]
)


def what(thing):
    return thing.task, thing.family, thing.class_names, thing.fused


@pytest.mark.parametrize(
    "form",
    [
        pytest.param({}, id="dynamic batch"),
        pytest.param({"batch": 2}, id="batch of two"),
        pytest.param({"dtype": TensorProto.FLOAT16}, id="fp16"),
        pytest.param({"int8": True}, id="int8"),
        pytest.param({"size_hw": (64, 96)}, id="wide"),
    ],
)
@each_network
def test_a_bare_file_is_recognised(tmp_path, target, network, form):
    package = imported(network.save(tmp_path / "net.onnx", **form), target, **network.hints)
    assert what(package) == what(network)
    size = (package.network_input.height, package.network_input.width)
    assert size == form.get("size_hw", (SIZE, SIZE))
    keypoints = (("0", "1"),) * 3 if network.task == "keypoint-detection" else ()
    assert package.keypoints == keypoints


@pytest.mark.parametrize("save", [save_package, save_legacy_folder], ids=["newer", "older"])
@pytest.mark.parametrize("name", BY_NAME)
def test_a_folder_of_either_layout_gives_the_same_package(tmp_path, target, name, save):
    network = BY_NAME[name]
    package = imported(save(tmp_path / "folder", network), target)
    assert what(package) == what(network)
    network_input = package.network_input
    assert network_input.resize_mode == "stretch"
    assert network_input.antialias == (network.family == "rfdetr")
    normalization = network.normalization
    assert network_input.normalization == (normalization and tuple(map(tuple, normalization)))
    keypoints = (KEYPOINT_NAMES,) * 3 if network.task == "keypoint-detection" else ()
    assert package.keypoints == keypoints
    assert package.removed_columns == ((0,) if network is RFDETR_BACKGROUND_FIRST else ())


@pytest.mark.parametrize(
    ("name", "mode", "padding", "first_mean"),
    [
        ("yolov8-raw", "letterbox", 114, None),
        ("yolov8-seg", "letterbox", 114, None),
        ("yolov8-pose", "letterbox", 114, None),
        ("yolonas", "letterbox", 114, None),
        ("yolo26-sem", "letterbox", 114, None),
        ("yolov8-cls", "stretch", 0, None),
        ("resnet", "stretch", 0, 0.485),
        ("dinov3", "stretch", 0, 0.485),
        ("vit", "stretch", 0, 0.5),
        ("deeplabv3plus", "stretch", 0, 0.485),
        ("rfdetr", "stretch", 0, 0.485),
        ("rfdetr-seg", "stretch", 0, 0.485),
    ],
)
def test_a_bare_file_gets_the_preprocessing_of_its_family(
    tmp_path, target, name, mode, padding, first_mean
):
    network = BY_NAME[name]
    package = imported(network.save(tmp_path / "net.onnx"), target, **network.hints)
    found = package.network_input
    assert (found.resize_mode, found.padding_value) == (mode, padding)
    assert (found.normalization and found.normalization[0][0]) == first_mean
    assert (found.color_mode, found.scaling_factor) == ("rgb", 255)


def rows(*shape, low=0.0, high=1.0):
    return np.random.default_rng(1).uniform(low, high, shape).astype(np.float32)


def end_to_end(columns=6, count=300):
    table = rows(1, count, columns, high=60)
    table[..., 4] /= 60
    table[..., 5] = np.arange(count) % 3
    return table


def normalised_pair(classes=4, queries=CELLS):
    return {"a": rows(1, queries, 4), "b": rows(1, queries, classes, low=-9, high=9)}


@pytest.mark.parametrize(
    ("outputs", "metadata", "candidates", "advice"),
    [
        pytest.param(
            {"output0": end_to_end()},
            NAMES,
            "yolov10 or yolo26 or yolov8 or yolov9 or yolov11 or yolov12 or yololite",
            "--family NAME; yolov8 stands for any that had NMS added",
            id="rows with NMS inside, of nobody knows which head",
        ),
        pytest.param(
            {"output0": rows(1, 3, low=-4)},
            NAMES,
            "resnet or vit or dinov3",
            "--family NAME",
            id="logits of a classifier",
        ),
        pytest.param(
            {"output0": np.full((1, 4), 0.25, np.float32)},
            {},
            "resnet or vit or dinov3 or yolov8 or yolov11",
            "--family NAME",
            id="probabilities of a classifier",
        ),
        pytest.param(
            {"output0": rows(1, 4, 16, 16, low=-4)},
            {},
            "deeplabv3plus or yolo26 or rfdetr",
            "--family NAME",
            id="a score per class and place",
        ),
        pytest.param(
            {"output0": rows(1, 1, 64, 64)},
            {},
            "deeplabv3plus or yolo26 or rfdetr or a network that measures depth (not supported)",
            "--task semantic-segmentation",
            id="one score per place",
        ),
        pytest.param(
            {"output0": rows(1, CELLS, CELLS)},
            {},
            "yolov8 or yolov9 or yolov11 or yolov12 or yolov10 or yolo26 or YOLOX (not supported)",
            "--task object-detection",
            id="as many rows as columns",
        ),
        pytest.param(
            {"output0": end_to_end(38), "output1": rows(1, 32, 16, 16)},
            NAMES,
            "yolo26 or yolov8 or yolov11",
            "--family NAME",
            id="masks with NMS inside",
        ),
    ],
)
def test_what_can_be_two_things_is_asked(tmp_path, target, outputs, metadata, candidates, advice):
    path = save_constants(tmp_path / "net.onnx", outputs, metadata)
    with pytest.raises(PackageError) as error:
        imported(path, target)
    message = str(error.value)
    assert f"net.onnx can be read as {candidates}, and nothing in it decides" in message
    assert f"output0 {next(iter(outputs.values())).shape}" in message
    assert advice in message


@pytest.mark.parametrize(
    ("family", "fused"),
    [("yolov10", False), ("yolo26", False), ("yolov8", True), ("yolo11n", True)],
)
def test_the_user_says_which_head_has_nms_inside(tmp_path, target, family, fused):
    path = save_constants(tmp_path / "net.onnx", {"output0": end_to_end()}, NAMES)
    package = imported(path, target, family=family)
    assert (package.family, package.fused) == (family.replace("yolo11n", "yolov11"), fused)


def test_the_number_of_classes_tells_rows_from_columns(tmp_path, target):
    path = save_constants(tmp_path / "net.onnx", {"output0": rows(1, CELLS, CELLS)})
    eighty, seventy_nine = (tuple(map(str, range(count))) for count in (80, 79))
    assert imported(path, target, classes=eighty).family == "yolov8"
    with pytest.raises(PackageError, match="YOLOX"):
        imported(path, target, classes=seventy_nine)


@pytest.mark.parametrize(
    ("metadata", "family", "fused"),
    [
        pytest.param({"head": "v10Detect", "end2end": "True"}, "yolov10", False, id="head"),
        pytest.param({"head": "Detect", "end2end": "True"}, "yolo26", False, id="end2end"),
        pytest.param({"description": "Ultralytics YOLOv10s model"}, "yolov10", False, id="older"),
        pytest.param({"end2end": "False", "args": "{'nms': True}"}, "yolov8", True, id="args.nms"),
        pytest.param(
            {"description": "Ultralytics YOLO12n model", "args": "{'nms': True}"},
            "yolov12",
            True,
            id="args.nms of a known family",
        ),
        pytest.param(
            {"description": "Ultralytics YOLO26n model", "args": "{'nms': True}"},
            "yolo26",
            True,
            id="NMS after the raw head of YOLO26",
        ),
    ],
)
def test_metadata_says_which_head_has_nms_inside(tmp_path, target, metadata, family, fused):
    metadata = {**NAMES, "task": "detect", **metadata}
    path = save_constants(tmp_path / "net.onnx", {"output0": end_to_end()}, metadata)
    package = imported(path, target)
    assert (package.family, package.fused) == (family, fused)


def test_the_shape_decides_about_the_layout_and_not_the_name(tmp_path, target):
    metadata = {**NAMES, "task": "detect", "description": "Ultralytics YOLOv5nu model"}
    path = save_constants(tmp_path / "net.onnx", {"output0": rows(1, 7, CELLS)}, metadata)
    assert imported(path, target).family == "yolov8"


def test_keypoints_are_named_by_the_metadata(tmp_path, target):
    metadata = {**POSE, "kpt_names": "{0: ['a', 'b'], 1: ['c', 'd'], 2: ['e', 'f']}"}
    path = save_constants(tmp_path / "net.onnx", {"output0": rows(1, 13, CELLS)}, metadata)
    assert imported(path, target).keypoints == (("a", "b"), ("c", "d"), ("e", "f"))


def test_a_pose_network_without_metadata_needs_its_task_and_classes(tmp_path, target):
    head = np.concatenate([rows(1, 4, CELLS, high=60), rows(1, 3, CELLS)], axis=1)
    head = np.concatenate([head, rows(1, 6, CELLS, low=2, high=60)], axis=1)
    path = save_constants(tmp_path / "net.onnx", {"output0": head})
    with pytest.raises(PackageError, match="say --task keypoint-detection"):
        imported(path, target)
    with pytest.raises(PackageError, match="name its classes with --classes FILE"):
        imported(path, target, task="keypoint-detection")
    package = imported(path, target, task="keypoint-detection", classes=COLOURS)
    assert (package.family, package.keypoints[0]) == ("yolov8", ("0", "1"))


def test_a_classifier_is_called_multi_label_by_the_user_only(tmp_path, target):
    path = save_constants(tmp_path / "net.onnx", {"output0": rows(1, 3)}, NAMES)
    assert imported(path, target, family="vit").task == "classification"
    package = imported(path, target, task="multi-label-classification", family="vit")
    assert (package.task, package.fused) == ("multi-label-classification", True)


def test_a_background_is_added_at_the_end_so_that_ids_stay(tmp_path, target):
    outputs = {"output0": rows(1, 3, 16, 16, low=-3)}
    path = save_constants(tmp_path / "net.onnx", outputs, {**NAMES, "task": "semantic"})
    package = imported(path, target)
    assert package.class_names == (*COLOURS, "background")
    assert package.notes == ("No class is the background: class 3 was added for it.",)


@pytest.mark.parametrize(
    ("outputs", "metadata", "kind"),
    [
        pytest.param(
            {"output0": end_to_end() * np.array([1 / 60] * 4 + [1, 1], np.float32)},
            {},
            "an RT-DETR export of Ultralytics",
            id="RT-DETR by its boxes",
        ),
        pytest.param(
            {"output0": rows(1, 300, 7)},
            {"head": "RTDETRDecoder"},
            "an RT-DETR export of Ultralytics",
            id="RT-DETR by its head",
        ),
        pytest.param(
            {"output0": rows(1, 8, CELLS)}, {"task": "obb"}, "oriented boxes (OBB)", id="OBB"
        ),
        pytest.param(
            {"output0": rows(1, 1, 64, 64)}, {"task": "depth"}, "measures depth", id="depth"
        ),
        pytest.param({"output0": rows(1, CELLS, 8)}, {}, "YOLOX", id="YOLOX"),
        pytest.param(
            {"pred_logits": rows(1, 9, 5), "pred_boxes": rows(1, 9, 4)}, {}, "raw DETR", id="DETR"
        ),
        pytest.param(
            {
                "a": rows(1, 9, 4),
                "b": rows(1, 9, 4),
                "c": rows(1, 9, 32),
                "d": rows(9, 4),
                "e": rows(1, 16, 16, 32),
            },
            {},
            "a YOLACT export",
            id="YOLACT",
        ),
        pytest.param(
            {"dets": rows(1, 9, 4), "labels": rows(1, 9, 3), "c": rows(1, 9, 6, 8)},
            {},
            "RF-DETR with keypoints",
            id="RF-DETR with keypoints",
        ),
    ],
)
def test_what_is_known_but_not_supported_is_named(tmp_path, target, outputs, metadata, kind):
    path = save_constants(tmp_path / "net.onnx", outputs, metadata)
    with pytest.raises(PackageError) as error:
        imported(path, target)
    assert kind in str(error.value)
    assert "which is not supported" in str(error.value)
    assert "Supported instead" in str(error.value)


def test_a_network_that_wants_the_size_of_the_picture_is_named(tmp_path, target):
    path = save_constants(tmp_path / "net.onnx", {"labels": rows(1, 300)})
    model = onnx.load(path)
    size = helper.make_tensor_value_info("orig_target_sizes", TensorProto.INT64, [1, 2])
    model.graph.input.append(size)
    onnx.save(model, path)
    with pytest.raises(PackageError, match="it is an RT-DETR, D-FINE or DEIM export.*rfdetr"):
        imported(path, target)
    model.graph.input[1].name = "mask"
    onnx.save(model, path)
    with pytest.raises(PackageError, match=r"has 2 inputs.*mask: int64 \(1, 2\).*expected one"):
        imported(path, target)


@pytest.mark.parametrize(
    ("outputs", "metadata", "hints", "message"),
    [
        pytest.param(
            {"output0": rows(1, 7, CELLS)},
            NAMES,
            {"family": "yolov5"},
            r"does not look like yolov5: its outputs are those of yolov8.*\(1, 7, 84\).*--family",
            id="a family with another layout",
        ),
        pytest.param(
            {"output0": rows(1, 3, low=-3)},
            NAMES,
            {"family": "yolov8"},
            "does not look like yolov8: its outputs are those of resnet, vit, dinov3",
            id="a YOLO classifier that gives logits",
        ),
        pytest.param(
            {"output0": rows(1, 7, CELLS)},
            {"task": "detect", **NAMES},
            {"task": "classification"},
            "says that its task is object-detection, not classification",
            id="another task than the metadata's",
        ),
        pytest.param(
            {"output0": rows(1, 7, CELLS)},
            NAMES,
            {"task": "classification"},
            "is said to do classification; its outputs are those of object-detection",
            id="another task than the outputs'",
        ),
        pytest.param(
            {"output0": rows(1, 7, CELLS)},
            NAMES,
            {"task": "dancing"},
            "Task 'dancing' is not supported; supported are object-detection, instance",
            id="no task",
        ),
        pytest.param(
            {"output0": rows(1, 7, CELLS)},
            NAMES,
            {"family": "mobilenet"},
            "Family 'mobilenet' is not supported; supported are yolov5, yolov8",
            id="no family",
        ),
        pytest.param(
            {"output0": rows(1, 7, CELLS)},
            {},
            {"task": "instance-segmentation", "family": "yolov12"},
            "'yolov12' is not supported for instance-segmentation; supported are yolov5, yolov7",
            id="a family without this task",
        ),
        pytest.param(
            {"output0": rows(1, 7, CELLS)},
            {},
            {"classes": ("a", "b", "c", "d")},
            r"has 4 class names; its output has room for 3: .*\(1, 7, 84\)",
            id="more names than classes",
        ),
        pytest.param(
            {"output0": rows(1, 7, CELLS)},
            {"names": "['a', 'b', 'a']"},
            {},
            "net.onnx names a class 'a' more than once; expected 3 names that differ.*--classes",
            id="a name twice",
        ),
        pytest.param(
            {"output0": rows(1, 8, CELLS)},
            NAMES,
            {},
            "has 3 class names; its output has room for 4.*oriented boxes",
            id="the column of an angle",
        ),
        pytest.param(
            {"output0": end_to_end()},
            {},
            {"family": "yolov10"},
            "does not name its classes, and its outputs do not show how many.*--classes FILE",
            id="no names and no way to count",
        ),
        pytest.param(
            {"output0": rows(1, 9, CELLS)},
            {**POSE, "kpt_shape": "[2, 2]"},
            {},
            r"'kpt_shape' is \[2, 2\]; expected \[K, 3\], for x, y and visibility.*Train it with",
            id="keypoints without visibility",
        ),
        pytest.param(
            {"output0": rows(1, 9, CELLS)},
            {**POSE, "kpt_shape": "(0, 'x')"},
            {},
            r"'kpt_shape' is \(0, 'x'\); expected \[K, 3\]",
            id="no shape of keypoints",
        ),
        pytest.param(
            {"output0": rows(1, 3, 5, 7, 9)},
            {},
            {},
            r"no supported family look like this: .*\(1, 3, 5, 7, 9\)",
            id="something else",
        ),
        pytest.param(
            {"output0": rows(1, 7, CELLS, low=2, high=3)},
            NAMES,
            {},
            "no supported family look like this.*say --task keypoint-detection",
            id="class scores that are none",
        ),
    ],
)
def test_a_contradiction_is_refused_with_what_was_found(
    tmp_path, target, outputs, metadata, hints, message
):
    path = save_constants(tmp_path / "net.onnx", outputs, metadata)
    with pytest.raises(PackageError, match=message):
        imported(path, target, **hints)


@pytest.mark.parametrize("columns", [3, 4])
def test_rfdetr_may_have_a_column_of_no_class(tmp_path, target, columns):
    path = save_constants(tmp_path / "net.onnx", normalised_pair(columns), NAMES)
    assert imported(path, target).class_names == COLOURS


def test_a_network_of_dynamic_size_is_read_at_the_size_in_its_metadata(tmp_path, target):
    path = BY_NAME["yolov8-raw"].save(tmp_path / "net.onnx", size_hw=(32, 96), dynamic_size=True)
    found = imported(path, target).network_input
    assert (found.height, found.width) == (32, 96)
