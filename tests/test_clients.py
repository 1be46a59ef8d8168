"""Every method of the Python client that concerns models, unchanged, against a real server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import cv2
import pytest
from PIL import Image

from tests.demos import BOXES, LABELS, check, check_same, summary
from tests.edge_server.api.conftest import as_object, post
from tests.support import DEMO_MODEL, EXAMPLES, ROOT, free_port, run_client, running_server

PICTURE = BOXES.picture
PICTURES = [EXAMPLES / f"inspection-{number}.jpg" for number in (1, 2, 3)]
SIZE = BOXES.size
LOW = {"confidence_threshold": 0.05}

modes = pytest.mark.parametrize("mode", ["v0", "v1"])
twins = pytest.mark.parametrize("twin", ["sync", "async"])

# Models that are the bundled detector with a step in front, as a model of a dataset may have one.
STEPS = {
    "grey/1": {"grayscale": {"enabled": True}},
    "crop/1": {
        "static-crop": {"enabled": True, "x_min": 50, "x_max": 100, "y_min": 0, "y_max": 100}
    },
    "contrast/1": {"contrast": {"enabled": True, "type": "Contrast Stretching"}},
}


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory):
    """A server that also has the models of STEPS, and one under an id that has an alias."""
    data = tmp_path_factory.mktemp("data")
    for model_id, steps in {**STEPS, "coco/3": {}}.items():
        folder = data / "models" / model_id
        shutil.copytree(ROOT / "edge_server" / "bundled" / DEMO_MODEL, folder)
        config = json.loads((folder / "inference_config.json").read_text())
        config["image_pre_processing"] = steps
        (folder / "inference_config.json").write_text(json.dumps(config))
    with running_server(data) as url:
        yield url


@pytest.fixture
def infer(ask, own_server: str):
    """Ask for predictions about the example, see ``tests/clients/infer.py``."""

    def run(model: str | None = DEMO_MODEL, pictures=("path", PICTURE), **arguments):
        arguments = {"server": own_server, "model": model, "pictures": pictures, **arguments}
        return ask("infer", **arguments)

    return run


# Lists


@modes
@twins
@pytest.mark.parametrize("at_once", [1, 2, 4])
@pytest.mark.parametrize("concurrent", [1, 3])
def test_lists_keep_their_order(infer, mode: str, twin: str, at_once: int, concurrent: int):
    """Acceptance vectors 4, 6 and 16: v0 sends one picture a request, v1 as many as allowed."""
    how = {"max_batch_size": at_once, "max_concurrent_requests": concurrent}
    answers = infer(
        pictures=[["path", file] for file in PICTURES], mode=mode, twin=twin, configuration=how
    )
    assert len(answers) == len(PICTURES)
    for file, answer in zip(PICTURES, answers, strict=True):
        check_same(answer, infer(pictures=("path", file)), pixels=2)


@modes
@twins
def test_an_empty_list_has_no_answers(infer, mode: str, twin: str):
    assert infer(pictures=[], mode=mode, twin=twin) == []


# Configuration. ``change`` is made to ``base``; ``effect`` compares what both find.


def same(before: list, after: list) -> bool:
    return before == after


def fewer(before: list, after: list) -> bool:
    return 0 < len(after) < len(before)


def more(before: list, after: list) -> bool:
    return fewer(after, before)


def none(before: list, after: list) -> bool:
    return after == []


def first_two(before: list, after: list) -> bool:
    return after == before[:2] and len(before) > 2


def only_gears(before: list, after: list) -> bool:
    return fewer(before, after) and after == [item for item in before if item[0] == "gear"]


@twins
@pytest.mark.parametrize(
    ("mode", "base", "change", "effect"),
    [
        pytest.param(mode, base, change, effect, id=f"{mode} {' '.join(change)} {effect.__name__}")
        for modes_with_it, base, change, effect in [
            ("v0 v1", LOW, {"confidence_threshold": 0.6}, fewer),
            ("v0 v1", LOW, {"confidence_threshold": 0.999}, none),
            ("v0 v1", {}, {"confidence_threshold": "best"}, same),
            ("v0 v1", {}, {"confidence_threshold": "default"}, same),
            # Boxes of one part overlap almost wholly: at 0.99 hardly any of them is merged.
            ("v0 v1", LOW, {"iou_threshold": 0.99}, more),
            ("v0 v1", LOW, {"iou_threshold": 0.1}, fewer),
            ("v0 v1", LOW, {"max_detections": 2}, first_two),
            ("v1", {**LOW, "iou_threshold": 0.1}, {"class_agnostic_nms": True}, fewer),
            ("v1", LOW, {"class_filter": ["gear"]}, only_gears),
            ("v1", LOW, {"class_filter": []}, same),
            # Accepted, without effect here.
            ("v1", {}, {"max_candidates": 3000}, same),
            ("v1", {}, {"fix_batch_size": True}, same),
            ("v0 v1", {}, {"include_anomaly_map": True}, same),
            ("v0 v1", {}, {"disable_active_learning": True}, same),
            ("v0 v1", {}, {"active_learning_target_dataset": "other"}, same),
            ("v0 v1", {}, {"source": "line-3", "source_info": "camera-1"}, same),
            ("v0 v1", {}, {"count_inference": False}, same),
            ("v0 v1", {}, {"service_secret": "none"}, same),
        ]
        for mode in modes_with_it.split()
    ],
)
def test_configuration_has_its_effect(infer, twin: str, mode: str, base, change, effect):
    before, after = (
        summary(infer(mode=mode, twin=twin, configuration=fields))
        for fields in (base, {**base, **change})
    )
    assert effect(before, after), (before, after)
    floor = {**base, **change}.get("confidence_threshold")
    assert all(item[1] >= (floor if isinstance(floor, float) else 0.4) for item in after)


@modes
@twins
@pytest.mark.parametrize(
    ("model", "switch"),
    [
        pytest.param("grey/1", "disable_preproc_grayscale", id="greyscale"),
        pytest.param("crop/1", "disable_preproc_static_crop", id="static crop"),
        pytest.param("contrast/1", "disable_preproc_contrast", id="contrast"),
    ],
)
def test_steps_of_a_model_can_be_switched_off(infer, mode: str, twin: str, model: str, switch: str):
    how = {"mode": mode, "twin": twin}
    plain, stepped = summary(infer(**how)), summary(infer(model, **how))
    assert stepped != plain
    assert summary(infer(model, configuration={switch: True}, **how)) == plain


@modes
@twins
def test_pictures_are_turned_upright_unless_switched_off(infer, mode: str, twin: str, tmp_path):
    """Acceptance vector 9."""
    file = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    with Image.open(PICTURE) as picture:
        picture.save(file, exif=exif)
    turned = {"width": SIZE["height"], "height": SIZE["width"]}
    how = {"pictures": ("path", file), "mode": mode, "twin": twin}
    assert infer(**how)["image"] == turned
    as_stored = {"disable_preproc_auto_orientation": True}
    assert infer(configuration=as_stored, **how)["image"] == SIZE


# Keys, modes, models


@modes
@twins
@pytest.mark.parametrize("transport", [None, "legacy", "both", "header"])
def test_the_key_may_come_on_any_way(infer, mode: str, twin: str, transport: str | None):
    """Acceptance vector 15."""
    check(infer(mode=mode, twin=twin, configuration={"api_key_transport": transport}), BOXES)


@pytest.fixture(scope="module")
def locked_server(tmp_path_factory: pytest.TempPathFactory):
    """A server that asks for a key on every route."""
    key = {"EDGE_SERVER_KEY": "open-sesame"}
    with running_server(tmp_path_factory.mktemp("data"), 'key_for = "all"\n', key) as url:
        yield url


@modes
@twins
@pytest.mark.parametrize("transport", ["legacy", "both", "header"])
def test_the_right_key_opens_on_any_way(
    infer, locked_server: str, mode: str, twin: str, transport: str
):
    """Acceptance vector 15, with a server that looks at the key."""
    how = {"server": locked_server, "mode": mode, "twin": twin}
    how["configuration"] = {"api_key_transport": transport}
    check(infer(key="open-sesame", **how), BOXES)
    check_failure(infer(key="another", **how), twin, 401, "Unauthorized", ["key"])


@twins
@pytest.mark.parametrize("transport", [None, "both", "header"])
def test_no_key_is_needed(infer, twin: str, transport: str | None):
    """Acceptance vector 15: the address then says ``api_key=None``."""
    check(infer(key=None, twin=twin, configuration={"api_key_transport": transport}), BOXES)


@twins
@pytest.mark.parametrize(
    ("mode", "method"),
    [("v0", "infer_from_api_v0"), ("v1", "infer_from_api_v0"), ("v1", "infer_from_api_v1")],
)
def test_a_mode_can_be_asked_for_by_method(infer, mode: str, twin: str, method: str):
    check(infer(mode=mode, twin=twin, method=method), BOXES)


@modes
@twins
def test_an_alias_leads_to_its_model(infer, mode: str, twin: str):
    """Acceptance vector 3: the client knows that this word means coco/3."""
    assert summary(infer("yolov8n-640", mode=mode, twin=twin)) == summary(infer())


def test_the_server_knows_the_alias_too(own_server: str):
    """Acceptance vector 3: users of curl send the word."""
    picture = as_object(PICTURE.read_bytes())
    body = {"model_id": "yolov8n-640", "image": picture}
    answer = post(f"{own_server}/infer/object_detection", body)
    assert answer.status == 200
    check(answer.json, BOXES)


@modes
def test_an_address_may_end_in_a_slash(own_server: str, infer, mode: str):
    """Acceptance vector 21."""
    check(infer(server=f"{own_server}/", mode=mode), BOXES)


def test_models_and_modes_are_chosen_for_several_calls(ask, server: str):
    answers = ask("selection", server=server, picture=PICTURE)
    assert answers["nothing selected"] == {"raised": "ModelNotSelectedError"}
    assert answers["after use"] == {"raised": "ModelNotSelectedError"}
    assert answers["v0 has no registry"] == {"raised": "WrongClientModeError"}
    for name in ("used", "used over selected"):
        assert list(answers[name]["predictions"]) == LABELS.classes
    for name in ("selected", "v0", "v1"):
        check(answers[name], BOXES)
    for name in ("configuration used", "configured", "v0 in so many words", "v1 in so many words"):
        assert summary(answers[name]) == summary(answers["selected"])[:1]


@twins
@pytest.mark.parametrize("transport", [None, "both", "header"])
def test_models_come_and_go(ask, twin: str, transport: str | None, tmp_path: Path):
    """Acceptance vectors 1, 2 and 17, on a server of their own: all is unloaded."""
    with running_server(tmp_path) as url:
        steps = ask(
            "management",
            twin=twin,
            picture=LABELS.picture,
            server=url,
            configuration={"api_key_transport": transport},
        )
    assert set(steps["info"]) == {"name", "version", "uuid"}
    assert all(isinstance(value, str) and value for value in steps["info"].values())
    assert steps["at first"] == []
    assert steps["described, no loading"] == {"raised": "ModelNotInitializedError"}
    description = {
        "model_id": DEMO_MODEL,
        "task_type": "object-detection",
        "batch_size": None,
        "input_height": 320,
        "input_width": 320,
    }
    assert steps["described"] == steps["described again"] == description
    assert steps["then listed"] == steps["loaded again"] == [DEMO_MODEL]
    assert steps["loaded another"] == [DEMO_MODEL, LABELS.model]
    assert steps["default"] == LABELS.model
    assert steps["asked the default"]
    for name in ("unloaded", "unloaded again", "unloaded what never was"):
        assert steps[name] == [DEMO_MODEL]
    assert steps["no default"] == [None, {"raised": "ModelNotSelectedError"}]
    assert steps["cleared"] == steps["cleared again"] == steps["at last"] == []
    registry, infer = "GET /model/registry", "POST /infer/object_detection"
    if twin == "sync":
        expected = [registry, "POST /model/add", infer, registry, infer]
        assert steps["requests of two calls"] == expected


# Streams


@modes
def test_a_folder_of_pictures(ask, server: str, mode: str, tmp_path: Path):
    for number, suffix in enumerate((".jpg", ".PNG", ".bmp")):
        cv2.imwrite(str(tmp_path / f"{number}{suffix}"), cv2.imread(str(PICTURES[number])))
    (tmp_path / "notes.txt").write_text("no picture")
    seen = ask("stream", source=tmp_path, server=server, mode=mode)
    assert sorted(Path(path).name for path, _, _ in seen) == ["0.jpg", "1.PNG"]
    for _, (height, width, _), answer in seen:
        assert answer["image"] == {"width": width, "height": height}
        check(answer, BOXES)
    wish = {"image_extensions_for_directory_scan": ["bmp"]}
    seen = ask("stream", source=tmp_path, server=server, mode=mode, configuration=wish)
    assert [Path(path).name for path, _, _ in seen] == ["2.bmp"]


@modes
def test_the_frames_of_a_video(ask, server: str, mode: str, tmp_path: Path):
    file = tmp_path / "frames.avi"
    video = cv2.VideoWriter(str(file), cv2.VideoWriter_fourcc(*"MJPG"), 5, (1280, 960))
    for picture in PICTURES:
        video.write(cv2.imread(str(picture)))
    video.release()
    seen = ask("stream", source=file, server=server, mode=mode)
    assert [reference for reference, _, _ in seen] == ["0", "1", "2"]
    for (_, shape, answer), picture in zip(seen, PICTURES, strict=True):
        assert shape == [960, 1280, 3]
        check_same(
            answer, ask("infer", server=server, model=DEMO_MODEL, pictures=["path", picture])
        )


# Failures


@modes
@twins
def test_an_unknown_model_is_named_with_those_that_there_are(infer, mode: str, twin: str):
    """Acceptance vector 12."""
    failed = infer("no-such-model/7", mode=mode, twin=twin)
    check_failure(failed, twin, 404, "Not Found", ["no-such-model/7", DEMO_MODEL])


@modes
@twins
@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param("no-such-file.jpg", "base64", id="a wrong path"),
        pytest.param("bm8gcGljdHVyZQ==", "", id="base64 of no picture"),
    ],
)
def test_a_picture_that_is_none_is_a_400(infer, mode: str, twin: str, text: str, why: str):
    """Acceptance vector 11."""
    failed = infer(pictures=("base64 text", text), mode=mode, twin=twin)
    check_failure(failed, twin, 400, "Bad Request", [why])


@modes
@twins
def test_one_bad_picture_fails_the_list(infer, mode: str, twin: str):
    pictures = [["path", PICTURE], ["base64 text", "bm8gcGljdHVyZQ=="]]
    failed = infer(pictures=pictures, mode=mode, twin=twin, configuration={"max_batch_size": 2})
    check_failure(failed, twin, 400, "Bad Request", [])


def check_failure(failed: dict, twin: str, status: int, reason: str, words: list[str]) -> None:
    """The async methods of the client drop the server's message and keep the status line's."""
    assert failed["status"] == status
    if twin == "async":
        assert failed["message"] == reason
    else:
        assert len(failed["message"]) > 20
        assert all(word in failed["message"] for word in words)


@twins
def test_nobody_answers(infer, twin: str):
    closed = f"http://127.0.0.1:{free_port()}"
    assert infer(server=closed, twin=twin) == {"raised": "HTTPServerConnectionError"}


# Others


def test_the_registry_never_waits(ask, tmp_path: Path):
    """Acceptance vector 22: it answers while models load and work."""
    file = tmp_path / "large.jpg"
    large = cv2.resize(cv2.imread(str(PICTURE)), (4000, 3000))
    cv2.imwrite(str(file), large, [cv2.IMWRITE_JPEG_QUALITY, 60])
    with running_server(tmp_path / "data") as url:
        seen = ask("polling", server=url, model=DEMO_MODEL, pictures=[["path", file]] * 12)
    assert seen["answers"] == 12
    assert seen["registries meanwhile"] >= 5


def test_example_client(clients_python: Path, server: str, picture_url, tmp_path: Path):
    drawn = tmp_path / "annotated.jpg"
    script = ROOT / "examples" / "client.py"
    environment = {"API_URL": server, "PICTURE_URL": picture_url(PICTURE), "OUT": str(drawn)}
    lines = run_client(clients_python, script, **environment).stdout.splitlines()
    found = [line for line in lines if " found: " in line]
    for way, line in zip(("URL", "NumPy array", "base64"), found, strict=True):
        assert line.startswith(way)
        assert any(name in line for name in BOXES.classes)
    assert drawn.read_bytes()[:3] == b"\xff\xd8\xff"
    assert drawn.read_bytes() != PICTURE.read_bytes()


def test_example_client_asks_nobody_but_api_url(clients_python: Path):
    script = ROOT / "examples" / "client.py"
    port = free_port()
    done = subprocess.run(
        [str(clients_python), str(script)],
        env={**os.environ, "API_URL": f"http://127.0.0.1:{port}"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode != 0
    assert f"127.0.0.1:{port}" in done.stderr or "connect" in done.stderr.lower()
