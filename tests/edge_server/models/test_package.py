"""What a package says is read exactly, or refused with file, value and expectation."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from edge_server.errors import PackageError
from edge_server.models.families import family_of
from edge_server.models.package import read_package, write_package
from edge_server.vision.params import Thresholds
from edge_server.vision.preprocess import StaticCrop
from tests.networks import BY_NAME, COLOURS, RFDETR_BACKGROUND_FIRST, save_package

YOLO = BY_NAME["yolov8-raw"]
POSE = BY_NAME["yolov8-pose"]
RESNET = BY_NAME["resnet"]
SEMANTIC = BY_NAME["deeplabv3plus"]
RFDETR = BY_NAME["rfdetr"]


def package_of(tmp_path, network=YOLO):
    return save_package(tmp_path / "package", network)


def change(folder, name, path, value):
    """Set the value under the keys ``path`` in one of the package's JSON files."""
    file = folder / name
    content = json.loads(file.read_text())
    parent = content
    for key in path[:-1]:
        parent = parent.setdefault(key, {}) if isinstance(parent, dict) else parent[key]
    parent[path[-1]] = value
    file.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("architecture", "family"),
    [
        *((f"yolov5{size}", "yolov5") for size in ("", "v2s", "v6n", "v6x", "-seg", "n-seg")),
        *((f"yolov7{size}", "yolov7") for size in ("", "-seg", "s-seg")),
        *((f"yolov8{size}", "yolov8") for size in ("", "n", "x", "n-seg", "x-pose", "n-cls")),
        *((f"yolov9{size}", "yolov9") for size in ("", "c", "e", "t")),
        *((f"yolov10{size}", "yolov10") for size in ("", "n", "b", "x")),
        *((f"yolov11{size}", "yolov11") for size in ("", "n", "b", "l-seg", "n-pose")),
        *((f"yolo11{size}", "yolov11") for size in ("", "n", "s-seg")),
        *((f"yolov12{size}", "yolov12") for size in ("", "x")),
        *((f"yolo26{size}", "yolo26") for size in ("", "n", "b", "n-seg", "m-pose", "x-sem")),
        ("yolov26n", "yolo26"),
        *((name, "yolonas") for name in ("yolonas", "yolo_nas_s", "yolo-nas-l", "YOLO_NAS_M")),
        *((name, "yololite") for name in ("yololite", "yololite-n", "yololite-edge-xl")),
        *((name, "rfdetr") for name in ("rfdetr", "rfdetr-base", "rfdetr-seg-2xlarge")),
        *((name, "rfdetr") for name in ("rfdetr-nas-seg", "rfdetr-sem-nano")),
        *((name, "resnet") for name in ("resnet", "resnet18", "resnet101")),
        *((name, "dinov3") for name in ("dinov3", "dinov3_probe")),
        ("vit", "vit"),
        *((name, "deeplabv3plus") for name in ("deeplabv3plus", "deep-lab-v3-plus")),
        ("yolact", "yolact"),
        ("yolov8n-obb", "yolov8n-obb"),
        ("yolo26n-depth", "yolo26n-depth"),
        ("yolov4", "yolov4"),
        ("paligemma-3b-pt-224", "paligemma-3b-pt-224"),
    ],
)
def test_every_model_type_has_its_family(architecture, family):
    assert family_of(architecture) == family


def read_changed(tmp_path, network, name, path, value):
    folder = package_of(tmp_path, network)
    change(folder, name, path, value)
    return read_package(folder, "x/1")


@pytest.mark.parametrize(
    ("network", "mode", "padding", "expected"),
    [
        pytest.param(YOLO, "fit-longer-edge", 3, ("letterbox", 127), id="YOLO"),
        pytest.param(SEMANTIC, "fit-longer-edge", 3, ("letterbox", 0), id="DeepLab"),
        pytest.param(RFDETR, "fit-longer-edge", 3, ("stretch", 0), id="RF-DETR"),
        pytest.param(RESNET, "fit-longer-edge", 3, ("stretch", 0), id="ResNet"),
        pytest.param(YOLO, "letterbox-reflect-edges", 9, ("letterbox", 9), id="reflected"),
        pytest.param(YOLO, "center-crop", None, ("center-crop", 0), id="centre"),
    ],
)
def test_modes_that_networks_of_one_size_cannot_have_are_replaced(
    tmp_path, network, mode, padding, expected
):
    folder = package_of(tmp_path, network)
    for key, value in (("resize_mode", mode), ("padding_value", padding)):
        change(folder, "inference_config.json", ["network_input", key], value)
    found = read_package(folder, "x/1").network_input
    assert (found.resize_mode, found.padding_value) == expected


@pytest.mark.parametrize(
    ("network", "mode", "size", "expected"),
    [
        pytest.param(RFDETR, "letterbox", (80, 48), ("letterbox", (80, 48)), id="two steps"),
        pytest.param(RFDETR, "letterbox", None, ("stretch", None), id="no size: one stretch"),
        pytest.param(RFDETR, "stretch", (80, 48), ("stretch", None), id="stretch: one stretch"),
        pytest.param(YOLO, "letterbox", (80, 48), ("letterbox", None), id="RF-DETR only"),
    ],
)
def test_the_size_of_the_dataset_counts_for_rfdetr(tmp_path, network, mode, size, expected):
    folder = package_of(tmp_path, network)
    value = size and {"width": size[0], "height": size[1]}
    change(folder, "inference_config.json", ["network_input", "resize_mode"], mode)
    key = ["network_input", "dataset_version_resize_dimensions"]
    change(folder, "inference_config.json", key, value)
    found = read_package(folder, "x/1").network_input
    assert (found.resize_mode, found.dataset_size) == expected
    assert found.antialias == (network is RFDETR)


def test_contrast_is_read(tmp_path):
    step = {"contrast": {"enabled": True, "type": "Histogram Equalization"}}
    package = read_changed(tmp_path, YOLO, "inference_config.json", ["image_pre_processing"], step)
    assert package.network_input.contrast == "Histogram Equalization"


def test_a_removed_class_is_a_column_without_a_name(tmp_path):
    package = read_package(package_of(tmp_path, RFDETR_BACKGROUND_FIRST), "x/1")
    assert package.class_names == COLOURS
    assert package.removed_columns == (0,)


def test_a_name_stays_when_nothing_says_that_it_goes(tmp_path):
    key = ["class_names_operations"]
    package = read_changed(tmp_path, RFDETR_BACKGROUND_FIRST, "inference_config.json", key, None)
    assert package.class_names == ("background_class83422", *COLOURS)
    assert package.removed_columns == ()


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("network", [YOLO, RESNET, BY_NAME["vit-multi-label"], SEMANTIC])
def test_fused_post_processing_is_read(tmp_path, network, fused):
    key = ["post_processing", "fused"]
    assert read_changed(tmp_path, network, "inference_config.json", key, fused).fused is fused


def test_keypoints_may_differ_by_class(tmp_path):
    folder = package_of(tmp_path, POSE)
    entries = [
        {"object_class_id": 1, "keypoints": {}},
        {"object_class_id": 2, "keypoints": {"0": "tip"}},
        {"object_class_id": 0, "keypoints": {"1": "tail", "0": "nose"}},
    ]
    (folder / "keypoints_metadata.json").write_text(json.dumps(entries))
    assert read_package(folder, "x/1").keypoints == (("nose", "tail"), (), ("tip",))


@pytest.mark.parametrize("name", BY_NAME)
def test_what_is_written_is_read_again(tmp_path, name):
    (tmp_path / "again").mkdir()
    package = replace(
        read_package(package_of(tmp_path, BY_NAME[name])),
        thresholds=Thresholds(0.3, {"red": 0.7}),
        max_batch_size=4,
        notes=("One.", "Two."),
    )
    steps = {"static_crop": StaticCrop(1, 99, 2, 98), "grayscale": True}
    steps["contrast"] = "Contrast Stretching"
    dataset_size = (80, 48) if package.family == "rfdetr" else None
    network_input = replace(
        package.network_input,
        resize_mode="letterbox",
        padding_value=114,
        dataset_size=dataset_size,
        **steps,
    )
    package = replace(package, network_input=network_input)
    if package.removed_columns:
        package = replace(package, removed_columns=(0, 2))
    write_package(package, tmp_path / "again")
    again = read_package(tmp_path / "again")
    assert replace(again, weights=package.weights) == package
    assert again.weights.read_bytes() == package.weights.read_bytes()


INFERENCE, CONFIG = "inference_config.json", "model_config.json"
NAN, HUGE = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("network", "file", "path", "value", "message"),
    [
        (YOLO, CONFIG, ["task_type"], "depth-estimation", "'depth-estimation'; expected one of o"),
        (YOLO, CONFIG, ["task_type"], None, "task_type is None; expected one of obj"),
        (YOLO, CONFIG, ["model_architecture"], "yolact", "'yolact'; expected one of yolov5, yolo"),
        (RFDETR, CONFIG, ["task_type"], "keypoint-detection",
         "model_architecture is 'rfdetr'; expected one of yolov8, yolov11, yolo26"),
        (YOLO, CONFIG, ["recommended_parameters"], {"confidence": NAN}, "confidence is nan; exp"),
        (YOLO, CONFIG, ["recommended_parameters"], {"confidence": 40}, "40; expected a number fr"),
        (YOLO, CONFIG, ["recommended_parameters"], {"perClassConfidence": {"red": "x"}},
         "recommended_parameters.perClassConfidence.red is 'x'; expected a number from 0 to 1"),
        (YOLO, INFERENCE, ["network_input", "padding_value"], 300, "a number from 0 to 255"),
        (YOLO, INFERENCE, ["network_input", "padding_value"], True, "padding_value is True"),
        (YOLO, INFERENCE, ["network_input", "scaling_factor"], 0, "a number above 0"),
        (YOLO, INFERENCE, ["network_input", "scaling_factor"], HUGE, "scaling_factor is inf"),
        (YOLO, INFERENCE, ["network_input", "normalization"], [[NAN, 0, 0], [1, 1, 1]], "nan"),
        (YOLO, INFERENCE, ["network_input", "normalization"], [[0, 0, 0], [1, -1, 1]], "above 0"),
        (YOLO, INFERENCE, ["network_input", "normalization"], "imagenet", "'imagenet'; expected"),
        (YOLO, INFERENCE, ["network_input", "training_input_size", "width"], 0,
         "network_input.training_input_size.width is 0; expected pixels from 1 to 8192"),
        (RFDETR, INFERENCE, ["network_input", "dataset_version_resize_dimensions"], {"width": 3},
         "dataset_version_resize_dimensions.height is None"),
        (YOLO, INFERENCE, ["image_pre_processing", "contrast"], {"enabled": True, "type": "CLAHE"},
         "contrast.type is 'CLAHE'; expected one of Contrast Stretching, Histogram"),
        (YOLO, INFERENCE, ["post_processing", "type"], "softmax", "expected one of nms"),
        (RESNET, INFERENCE, ["post_processing", "type"], "nms", "'nms'; expected one of softmax"),
        (RESNET, INFERENCE, ["post_processing"], None, "post_processing is None; expected an obj"),
        (BY_NAME["vit-multi-label"], INFERENCE, ["post_processing", "type"], "softmax", "sigmoid"),
        (YOLO, INFERENCE, ["post_processing", "fused"], "yes", "'yes'; expected true or false"),
        (YOLO, INFERENCE, ["forward_pass"], {"static_batch_size": 1.5}, "static_batch_size is 1.5"),
        (YOLO, INFERENCE, ["class_names_operations"],
         [{"type": "class_name_removal", "class_name": "red"}], "expected none for yolov8"),
        (RFDETR, INFERENCE, ["class_names_operations"],
         [{"type": "class_name_removal", "class_name": "void"}],
         r"class_names_operations\[0\].class_name is 'void'; expected a name in class_names.txt"),
        (RFDETR, INFERENCE, ["class_names_operations"], [{"type": "merge"}], "'merge'; expected"),
        (RFDETR, INFERENCE, ["class_names_operations"], {}, "expected a list of objects"),
        (RFDETR, INFERENCE, ["class_names_operations"],
         [{"type": "class_name_removal", "class_name": name} for name in COLOURS],
         "no class is left"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_is_refused(tmp_path, network, file, path, value, message):
    with pytest.raises(PackageError, match=message) as error:
        read_changed(tmp_path, network, file, path, value)
    assert file in str(error.value) or "class_names.txt" in str(error.value)


@pytest.mark.parametrize(
    ("network", "text", "message"),
    [
        (YOLO, "red\n\nblue\n", r"class_names\.txt: line 2 of 3 is empty"),
        (YOLO, " \n", r"class_names\.txt is empty; expected one class name per line"),
        (YOLO, "red\ngreen\nred\n", "a class 'red' more than once; expected 3 names that"),
        (SEMANTIC, "red\ngreen\n", "names red, green; expected 'background' among the classes"),
        (SEMANTIC, "background\n" + "".join(f"{i}\n" for i in range(256)), "257 classes; exp"),
    ],
)
def test_class_names_that_cannot_be_are_refused(tmp_path, network, text, message):
    folder = package_of(tmp_path, network)
    (folder / "class_names.txt").write_text(text)
    with pytest.raises(PackageError, match=message):
        read_package(folder, "x/1")


def test_classifiers_may_have_two_classes_of_one_name_as_imagenet_has(tmp_path):
    folder = package_of(tmp_path, RESNET)
    (folder / "class_names.txt").write_text("\ufeffcrane\ntrain\ncrane\n", encoding="utf-8")
    assert read_package(folder, "x/1").class_names == ("crane", "train", "crane")


def test_the_background_may_be_written_in_capitals(tmp_path):
    folder = package_of(tmp_path, SEMANTIC)
    (folder / "class_names.txt").write_text("red\nBackground\n")
    assert read_package(folder, "x/1").class_names == ("red", "Background")


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([], r"object_class_id takes the values \[\]; expected 0 to 2, each once"),
        ([{"object_class_id": i, "keypoints": {"0": "a"}} for i in (0, 1, 1)], r"\[0, 1, 1\]"),
        ([{"object_class_id": i, "keypoints": {"1": "a"}} for i in range(3)], "without a gap"),
        ([{"object_class_id": i, "keypoints": {}} for i in range(3)], "names no keypoint"),
        ([{"object_class_id": i} for i in range(3)], "keypoints is None; expected an object"),
        ({"0": []}, "expected a list of objects"),
    ],
)
def test_keypoints_that_cannot_be_are_refused(tmp_path, entries, message):
    folder = package_of(tmp_path, POSE)
    (folder / "keypoints_metadata.json").write_text(json.dumps(entries))
    with pytest.raises(PackageError, match=message) as error:
        read_package(folder, "x/1")
    assert "keypoints_metadata.json" in str(error.value)


def test_missing_keypoints_are_named(tmp_path):
    folder = package_of(tmp_path, POSE)
    (folder / "keypoints_metadata.json").unlink()
    with pytest.raises(PackageError, match=r"keypoints_metadata\.json cannot be read: No such"):
        read_package(folder, "x/1")
