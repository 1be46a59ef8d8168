"""Weights of any origin become a package that reads back as what they were, or are refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edge_server.errors import PackageError
from tests.edge_server.models.conftest import imported
from tests.networks import (
    BY_NAME,
    COLOURS,
    RFDETR_BACKGROUND_FIRST,
    cells,
    head_rows,
    save_constants,
    save_detector,
    save_legacy_folder,
    save_package,
)

NAMES = {"names": "{0: 'cat', 1: 'dog'}", "task": "detect"}
ROWS = head_rows([[10, 10, 4, 4]], [[0.9, 0.1]], cells(64, 64))
PREPROCESSING = {
    "auto-orient": {"enabled": True},
    "static-crop": {"enabled": True, "x_min": 15, "x_max": 85, "y_min": 10, "y_max": 75},
    "resize": {"enabled": True, "width": 64, "height": 64, "format": "Fit (white edges) in"},
}
IM_CONFIG = {
    "model_architecture": "yolov8n",
    "task_type": "object-detection",
    "backend_type": "onnx",
    "recommended_parameters": {"confidence": 0.35, "perClassConfidence": {"cat": 0.6}},
}
IM_INFERENCE = {
    "image_pre_processing": {"grayscale": {"enabled": True}},
    "network_input": {
        "training_input_size": {"height": 64, "width": 64},
        "dynamic_spatial_size_supported": False,
        "color_mode": "bgr",
        "resize_mode": "stretch",
        "padding_value": None,
        "input_channels": 3,
        "scaling_factor": 255,
        "normalization": [[0.1, 0.2, 0.3], [1, 1, 2]],
    },
    "forward_pass": {"max_dynamic_batch_size": 4},
    "post_processing": {"type": "nms", "fused": False},
}


def legacy_folder(
    folder, preprocessing=PREPROCESSING, model_type="yolov8s", weights="weights.onnx"
):
    folder.mkdir()
    save_detector(folder / weights, ROWS)
    (folder / "class_names.txt").write_text("cat\ndog\n")
    (folder / "environment.json").write_text(json.dumps({"PREPROCESSING": preprocessing}))
    if model_type:
        kind = {"project_task_type": "object-detection", "model_type": model_type}
        (folder / "model_type.json").write_text(json.dumps(kind))
    return folder


def im_folder(folder, config=IM_CONFIG, inference=IM_INFERENCE):
    folder.mkdir()
    save_detector(folder / "weights.onnx", ROWS)
    (folder / "class_names.txt").write_text("cat\ndog\n")
    (folder / "model_config.json").write_text(json.dumps(config))
    (folder / "inference_config.json").write_text(json.dumps(inference))
    return folder


def changed(base, path, value):
    copy = json.loads(json.dumps(base))
    parent = copy
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = value
    return copy


def test_a_bare_export_is_understood_from_metadata_and_shapes(tmp_path, target):
    package = imported(save_detector(tmp_path / "best.onnx", ROWS, metadata=NAMES), target)
    assert (package.task, package.family) == ("object-detection", "yolov8")
    assert package.class_names == ("cat", "dog")
    network = package.network_input
    assert (network.width, network.height, network.resize_mode) == (64, 64, "letterbox")
    assert (network.padding_value, network.color_mode, network.scaling_factor) == (114, "rgb", 255)


def test_a_bare_export_without_names_gets_ids_as_names(tmp_path, target):
    package = imported(save_detector(tmp_path / "net.onnx", ROWS), target)
    assert package.class_names == ("0", "1")
    assert package.notes == (
        "The file names no classes: they are called by their numbers, 0 to 1. "
        "Give it --classes FILE to name them.",
    )


def test_the_user_names_the_classes(tmp_path, target):
    path = save_detector(tmp_path / "net.onnx", ROWS, metadata=NAMES)
    package = imported(path, target, classes=("cow", "horse"))
    assert package.class_names == ("cow", "horse")
    assert package.notes == ()


def test_a_dynamic_size_is_taken_from_the_metadata(tmp_path, target):
    rows = head_rows([[1, 1, 1, 1]], [[0.5, 0.5]], cells(96, 160))
    path = save_detector(
        tmp_path / "net.onnx", rows, size=("height", "width"), metadata={"imgsz": "[96, 160]"}
    )
    network = imported(path, target).network_input
    assert (network.height, network.width) == (96, 160)


@pytest.mark.parametrize("as_text", [False, True])
def test_the_legacy_layout_keeps_its_preprocessing(tmp_path, target, as_text):
    preprocessing = json.dumps(PREPROCESSING) if as_text else PREPROCESSING
    package = imported(legacy_folder(tmp_path / "old", preprocessing), target)
    assert (package.task, package.family) == ("object-detection", "yolov8")
    assert package.class_names == ("cat", "dog")
    assert package.network_input.resize_mode == "letterbox"
    assert package.network_input.padding_value == 255
    assert package.network_input.static_crop is not None
    assert package.network_input.static_crop.x_max == 85


def test_the_legacy_layout_without_a_model_type_is_read_from_the_shapes(tmp_path, target):
    package = imported(legacy_folder(tmp_path / "old", model_type=None), target)
    assert package.family == "yolov8"


@pytest.mark.parametrize(
    ("resize_format", "mode", "padding"),
    [
        ("Stretch to", "stretch", 0),
        ("Fit (black edges) in", "letterbox", 0),
        ("Fit (grey edges) in", "letterbox", 127),
        ("Fit (reflect edges) in", "letterbox", 0),
        ("Fill (with center crop) in", "center-crop", 0),
        ("Fit within", "letterbox", 127),
        ("something else", "stretch", 0),
    ],
)
def test_every_legacy_resize_format_has_its_mode(tmp_path, target, resize_format, mode, padding):
    preprocessing = changed(PREPROCESSING, ["resize", "format"], resize_format)
    network = imported(legacy_folder(tmp_path / "old", preprocessing), target).network_input
    assert (network.resize_mode, network.padding_value) == (mode, padding)


def test_the_newer_layout_is_taken_as_it_is(tmp_path, target):
    package = imported(im_folder(tmp_path / "new"), target)
    network = package.network_input
    assert package.family == "yolov8"
    assert package.max_batch_size == 4
    assert package.thresholds.per_class == {"cat": 0.6}
    assert network.grayscale
    assert (network.color_mode, network.resize_mode) == ("bgr", "stretch")
    assert network.normalization == ((0.1, 0.2, 0.3), (1, 1, 2))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["network_input", "resize_mode"], "zoom", "one of stretch, letterbox"),
        (["network_input", "color_mode"], "hsv", "'hsv'; expected one of rgb, bgr"),
        (["network_input", "training_input_size", "width"], "big", "'big'; expected pixels"),
        (["network_input", "input_channels"], 4, "input_channels is 4"),
        (["network_input", "normalization"], [[0, 0, 0], [1, 0, 1]], "normalization"),
        (["network_input"], None, "network_input is None; expected an object"),
        (["image_pre_processing"], {"contrast": {"enabled": True}}, "contrast"),
        (["image_pre_processing"], {"static-crop": {"enabled": True}}, "x_min is None"),
        (["forward_pass", "max_dynamic_batch_size"], -1, "max_dynamic_batch_size is -1"),
    ],
)
def test_a_package_that_asks_for_what_cannot_be_done_is_refused(
    tmp_path, target, path, value, message
):
    folder = im_folder(tmp_path / "new", inference=changed(IM_INFERENCE, path, value))
    with pytest.raises(PackageError, match=message):
        imported(folder, target)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("backend_type", "trt", "backend_type is 'trt'; expected 'onnx'"),
        ("model_architecture", "yolact", "'yolact'; expected one of yolov5, yolov8"),
        ("task_type", "depth-estimation", "'depth-estimation'; expected one of object-detection"),
        ("recommended_parameters", {"confidence": "high"}, "recommended_parameters"),
    ],
)
def test_a_package_of_another_kind_is_refused(tmp_path, target, key, value, message):
    folder = im_folder(tmp_path / "new", config={**IM_CONFIG, key: value})
    with pytest.raises(PackageError, match=message):
        imported(folder, target)


def rewritten(folder, file, **changes):
    """The folder, with keys of one of its JSON files changed; None removes a key."""
    content = {**json.loads((folder / file).read_text()), **changes}
    kept = {key: value for key, value in content.items() if value is not None}
    (folder / file).write_text(json.dumps(kept))
    return folder


@pytest.mark.parametrize(
    ("name", "model_type", "family"),
    [
        ("yolov8-raw", None, "yolov8"),
        ("yolov5", "ort", "yolov5"),
        ("yolov7-seg", "ort", "yolov7"),
        ("rfdetr", "", "rfdetr"),
    ],
)
def test_an_untold_model_type_is_read_from_the_network(tmp_path, target, name, model_type, family):
    folder = save_legacy_folder(tmp_path / "old", BY_NAME[name])
    rewritten(folder, "model_type.json", model_type=model_type)
    assert imported(folder, target).family == family


def test_an_untold_model_type_that_the_network_does_not_show_is_asked(tmp_path, target):
    folder = save_legacy_folder(tmp_path / "old", BY_NAME["vit"])
    (folder / "model_type.json").unlink()
    with pytest.raises(PackageError, match=r"best\.onnx can be read as resnet or vit or dinov3"):
        imported(folder, target)
    assert imported(folder, target, family="vit").class_names == COLOURS


def test_a_legacy_classifier_of_several_labels_says_so(tmp_path, target):
    folder = save_legacy_folder(tmp_path / "old", BY_NAME["resnet-multi-label"])
    assert imported(folder, target).task == "multi-label-classification"


def test_the_legacy_background_of_rfdetr_is_no_class(tmp_path, target):
    folder = save_legacy_folder(tmp_path / "old", RFDETR_BACKGROUND_FIRST)
    resize = {"width": 80, "height": 48, "format": "Fit (black edges) in"}
    rewritten(folder, "environment.json", PREPROCESSING={"resize": resize}, RESOLUTION=[64])
    package = imported(folder, target)
    assert (package.class_names, package.removed_columns) == (COLOURS, (0,))
    found = package.network_input
    assert (found.resize_mode, found.dataset_size) == ("letterbox", (80, 48))
    assert (found.height, found.width, found.antialias) == (64, 64, True)


def test_a_legacy_network_of_dynamic_size_has_that_of_its_dataset(tmp_path, target):
    network = BY_NAME["yolonas"]
    folder = save_legacy_folder(
        tmp_path / "old", network, size_hw=(64, 96), dynamic_size=True, batch=1
    )
    found = imported(folder, target).network_input
    assert (found.height, found.width) == (64, 96)


def test_a_legacy_network_whose_dataset_was_not_resized_is_stretched(tmp_path, target):
    folder = rewritten(legacy_folder(tmp_path / "old"), "environment.json", PREPROCESSING={})
    package = imported(folder, target)
    assert package.network_input.resize_mode == "stretch"
    assert package.notes == ()


@pytest.mark.parametrize(
    ("name", "file", "changes", "message"),
    [
        ("resnet", "environment.json", {"CLASS_MAP": {"0": "a", "2": "b"}}, "CLASS_MAP is.*gap"),
        ("resnet", "environment.json", {"MULTICLASS": "yes"}, "MULTICLASS is 'yes'; expected true"),
        ("yolov8-raw", "environment.json", {"PREPROCESSING": None}, "PREPROCESSING is None"),
        ("yolov8-raw", "environment.json", {"PREPROCESSING": "{"}, "PREPROCESSING is not valid"),
        ("yolov8-raw", "model_type.json", {"model_type": "yolact"}, "'yolact' is not supported"),
        ("yolov8-raw", "model_type.json", {"project_task_type": "x"}, "Task 'x' is not supported"),
    ],
)
def test_a_legacy_folder_that_cannot_be_is_refused(tmp_path, target, name, file, changes, message):
    folder = rewritten(save_legacy_folder(tmp_path / "old", BY_NAME[name]), file, **changes)
    with pytest.raises(PackageError, match=message):
        imported(folder, target)


def test_legacy_weights_are_looked_for_by_their_names(tmp_path, target):
    folder = legacy_folder(tmp_path / "old")
    (folder / "weights.onnx").rename(folder / "model.onnx")
    with pytest.raises(PackageError, match=r"weights\.onnx, yolov5s_weights\.onnx, best\.onnx"):
        imported(folder, target)


@pytest.mark.parametrize("save", [save_package, save_legacy_folder])
@pytest.mark.parametrize(
    ("hints", "message"),
    [
        ({"task": "classification"}, "says that its task is object-detection, not classification"),
        ({"family": "yolov5"}, "says that its family is yolov8, not yolov5"),
        ({"classes": COLOURS}, r"class_names\.txt names the classes.*leave out --classes"),
    ],
)
def test_the_user_may_not_contradict_a_package(tmp_path, target, save, hints, message):
    folder = save(tmp_path / "folder", BY_NAME["yolov8-raw"])
    with pytest.raises(PackageError, match=message):
        imported(folder, target, **hints)
    same = {"task": "object-detection", "family": "yolov8x"}
    assert imported(folder, target, **same).family == "yolov8"


def test_the_size_of_the_network_wins_for_rfdetr(tmp_path, target):
    folder = save_package(tmp_path / "new", BY_NAME["rfdetr"], size_hw=(96, 96))
    inference = json.loads((folder / "inference_config.json").read_text())
    size = {"height": 560, "width": 560}
    network_input = {**inference["network_input"], "training_input_size": size}
    rewritten(folder, "inference_config.json", network_input=network_input)
    rewritten(folder, "model_config.json", model_features={"resolution": 96})
    package = imported(folder, target)
    assert (package.network_input.height, package.network_input.width) == (96, 96)
    kept = json.loads((target / "model_config.json").read_text())["model_features"]
    assert kept == {"resolution": 96}
    assert package.notes == (
        "inference_config.json says that the network takes 560x560; it takes 96x96, which is used.",
    )


@pytest.mark.parametrize("name", ["class_names.txt", "inference_config.json", "weights.onnx"])
def test_a_missing_file_is_named(tmp_path, target, name):
    folder = im_folder(tmp_path / "new")
    (folder / name).unlink()
    with pytest.raises(PackageError, match=f"{name} is missing"):
        imported(folder, target)


def test_damaged_json_is_named(tmp_path, target):
    folder = im_folder(tmp_path / "new")
    (folder / "model_config.json").write_text("{")
    with pytest.raises(PackageError, match=r"model_config\.json is not valid JSON"):
        imported(folder, target)


def test_a_network_of_no_known_layout_is_refused_with_what_was_found(tmp_path, target):
    path = save_constants(tmp_path / "strange.onnx", {"output0": np.zeros((1, 300, 7), np.float32)})
    with pytest.raises(PackageError, match=r"strange\.onnx cannot be used.*\(1, 300, 7\)") as error:
        imported(path, target)
    assert "images: float32 (1, 3, 64, 64)" in str(error.value)


def test_a_network_of_another_task_is_refused(tmp_path, target):
    path = save_detector(tmp_path / "seg.onnx", ROWS, metadata={"task": "segment"})
    with pytest.raises(PackageError, match="instance-segmentation"):
        imported(path, target)
    with pytest.raises(PackageError, match="its task is instance-segmentation, not object"):
        imported(path, target, task="object-detection")


def test_names_that_do_not_fit_the_output_are_refused(tmp_path, target):
    path = save_detector(tmp_path / "net.onnx", ROWS, metadata={"names": "{0: 'cat'}"})
    with pytest.raises(PackageError, match="has 1 class names; its output has room for 2"):
        imported(path, target)


@pytest.mark.parametrize("names", ["__import__('os')", "{0: 'a', 2: 'b'}", "[", "7"])
def test_metadata_is_data_never_code(tmp_path, target, names):
    path = save_detector(tmp_path / "net.onnx", ROWS, metadata={"names": names})
    with pytest.raises(PackageError, match="names"):
        imported(path, target)


def test_what_is_no_model_is_refused_with_what_was_found(tmp_path, target):
    with pytest.raises(PackageError, match="does not exist"):
        imported(tmp_path / "nothing", target)
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(PackageError, match=r"notes\.txt is a file; expected an \.onnx file"):
        imported(tmp_path / "notes.txt", target)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "cat.jpg").write_text("x")
    with pytest.raises(PackageError, match=r"a folder with cat\.jpg; expected"):
        imported(tmp_path / "folder", target)
    (tmp_path / "broken.onnx").write_bytes(b"not a network")
    with pytest.raises(PackageError, match=r"broken\.onnx cannot be opened"):
        imported(tmp_path / "broken.onnx", target)
