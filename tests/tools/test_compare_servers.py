"""The comparison of two servers: what counts as agreement, and runs against the real server."""

from __future__ import annotations

import base64
import copy
import json

import cv2
import numpy as np
import pytest

from tests.support import DEMO_MODEL, EXAMPLES, free_port
from tools.compare_answers import Limits, box_corners, compare, decode_rle, mask_iou, pair
from tools.compare_servers import Server, main, picture_object

PICTURES = [str(path) for path in sorted(EXAMPLES.glob("*.jpg"))]


def box(name="cat", x=50.0, y=40.0, confidence=0.9, **more):
    names = ("cat", "dog")
    size = {"width": 20.0, "height": 10.0}
    known = {"class": name, "class_id": names.index(name), "detection_id": "any"}
    return {"x": x, "y": y, **size, "confidence": confidence, **known, **more}


def answer(*predictions, **more):
    size = {"width": 100, "height": 80}
    incidental = {"inference_id": "i", "time": 0.1}
    return {**incidental, "image": size, "predictions": list(predictions), **more}


def polygon(*corners):
    points = [{"x": float(x), "y": float(y)} for x, y in corners]
    return box(points=points, mask_format="polygon")


def keypoints(*points):
    rows = [
        {"x": x, "y": y, "confidence": confidence, "class_id": slot, "class": f"p{slot}"}
        for slot, x, y, confidence in points
    ]
    return box(keypoints=rows)


def ranking(**scores):
    names = ("bolt", "nut", "pin")
    rows = [
        {"class": name, "class_id": names.index(name), "confidence": score}
        for name, score in scores.items()
    ]
    top = rows[0] if rows else {"class": "", "confidence": 0.0}
    return answer(*rows, top=top["class"], confidence=top["confidence"])


def labels(above, **scores):
    found = answer(predicted_classes=above)
    found["predictions"] = {
        name: {"confidence": score, "class_id": slot}
        for slot, (name, score) in enumerate(scores.items())
    }
    return found


def class_map(ids, confidences=200, names=("background", "rust")):
    def png(values):
        pixels = np.broadcast_to(np.array(values, np.uint8), (80, 100))
        return base64.b64encode(cv2.imencode(".png", pixels)[1].tobytes()).decode()

    found = answer()
    found["predictions"] = {
        "segmentation_mask": png(ids),
        "confidence_mask": png(confidences),
        "class_map": {str(slot): name for slot, name in enumerate(names)},
    }
    return found


SQUARE = ((10, 10), (10, 30), (30, 30), (30, 10))  # 21 x 21 pixels
LOWER = ((10, 11), (10, 31), (30, 31), (30, 11))
RUST = np.arange(100) % 2

AGREE = [
    pytest.param(answer(), answer(), id="nothing on both"),
    pytest.param(answer(box()), answer(box(detection_id="other")), id="ids of detections"),
    pytest.param(answer(box()), answer(box(), time=9.0, resolved_model={}), id="incidental"),
    pytest.param(answer(box()), answer(box(x=51.0)), id="a box one pixel aside"),
    pytest.param(answer(box()), answer(box(confidence=0.9009)), id="confidence in the limit"),
    pytest.param(
        answer(box(), box("dog", x=70.0)), answer(box("dog", x=70.0), box()), id="another order"
    ),
    pytest.param(
        answer(box(confidence=0.9), box(confidence=0.8)),
        answer(box(confidence=0.8), box(confidence=0.9)),
        id="equal boxes told apart by confidence",
    ),
    pytest.param(answer(polygon(*SQUARE)), answer(polygon(*SQUARE[::-1])), id="turned polygon"),
    pytest.param(answer(polygon()), answer(polygon()), id="two empty masks"),
    pytest.param(
        answer(keypoints((0, 1, 2, 0.5))), answer(keypoints((0, 2, 3, 0.5))), id="keypoint 1 px"
    ),
    pytest.param(ranking(nut=0.7, bolt=0.3), ranking(nut=0.7005, bolt=0.2995), id="ranking"),
    pytest.param(labels(["a"], a=0.9, b=0.1), labels(["a"], a=0.9, b=0.1), id="labels"),
    pytest.param(class_map(RUST), class_map(RUST, 201), id="class map, confidence a step apart"),
]
DIFFER = [
    pytest.param(
        answer(box(), box("dog", x=70.0)),
        answer(box()),
        ["number of predictions: A has 2, B has 1", "only A has dog 0.9000 at 70,40"],
        id="one more",
    ),
    pytest.param(
        answer(box()),
        answer(box("dog")),
        ["only A has cat 0.9000 at 50,40", "only B has dog 0.9000 at 50,40"],
        id="another class",
    ),
    pytest.param(
        answer(box()),
        answer(box(x=51.5)),
        ["cat 0.9000 at 50,40: box_px 1.5, limit 1"],
        id="a box aside",
    ),
    pytest.param(
        answer(box()),
        answer(box(x=80.0)),
        ["only A has cat 0.9000 at 50,40", "only B has cat 0.9000 at 80,40"],
        id="a box elsewhere",
    ),
    pytest.param(
        answer(box()),
        answer(box(confidence=0.85)),
        ["cat 0.9000 at 50,40: confidence 0.05, limit 0.001"],
        id="confidence",
    ),
    pytest.param(
        answer(box()),
        answer(box(class_id=7)),
        ["cat 0.9000 at 50,40: class_id: A has 0, B has 7"],
        id="class id",
    ),
    pytest.param(
        answer(polygon(*SQUARE)),
        answer(polygon(*LOWER)),
        ["cat 0.9000 at 50,40: mask_iou 0.9091, limit 0.98"],
        id="mask",
    ),
    pytest.param(
        answer(keypoints((0, 1, 2, 0.5), (1, 5, 5, 0.5))),
        answer(keypoints((0, 1, 4, 0.6))),
        [
            "cat 0.9000 at 50,40: keypoints: A has [0, 1], B has [0]",
            "cat 0.9000 at 50,40, keypoint p0: keypoint_px 2, limit 1",
            "cat 0.9000 at 50,40, keypoint p0: confidence 0.1, limit 0.001",
        ],
        id="keypoints",
    ),
    pytest.param(
        ranking(nut=0.6, bolt=0.4),
        ranking(bolt=0.6),
        [
            "number of predictions: A has 2, B has 1",
            "only A has nut 0.6000",
            "bolt: confidence 0.2, limit 0.001",
            "top: A has 'nut', B has 'bolt'",
        ],
        id="ranking",
    ),
    pytest.param(
        labels(["a"], a=0.9, b=0.1),
        labels([], a=0.4, b=0.1),
        [
            "a: confidence 0.5, limit 0.001",
            "predicted_classes: A has ['a'], B has []",
        ],
        id="labels",
    ),
    pytest.param(
        class_map(0),
        class_map(RUST, 100),
        [
            "segmentation_mask: pixels 0.5, limit 0.98",
            "confidence_mask: pixels 0, limit 0.98",
        ],
        id="class map",
    ),
    pytest.param(
        class_map(0),
        class_map(0, names=("background", "paint")),
        [
            "class_map: A has {'0': 'background', '1': 'rust'}, "
            "B has {'0': 'background', '1': 'paint'}"
        ],
        id="names of a class map",
    ),
    pytest.param(
        ranking(nut=0.6),
        class_map(0),
        [
            "fields: A has ['confidence', 'image', 'predictions', 'top'], "
            "B has ['image', 'predictions']",
            "form of the answer: A has 'list', B has 'class map'",
        ],
        id="another task",
    ),
    pytest.param(
        answer(box()),
        {**answer(box()), "image": {"width": 80, "height": 100}},
        ["image: A has {'width': 100, 'height': 80}, B has {'width': 80, 'height': 100}"],
        id="size of the picture",
    ),
]


@pytest.mark.parametrize(("a", "b"), AGREE)
def test_agreement(a, b):
    assert compare(a, b, Limits()).differences == []


@pytest.mark.parametrize(("a", "b", "differences"), DIFFER)
def test_differences_are_named(a, b, differences):
    assert compare(a, b, Limits()).differences == differences


def test_the_worst_of_every_kind_is_measured():
    a = answer(keypoints((0, 1, 2, 0.5)), polygon(*SQUARE))
    b = copy.deepcopy(a)
    b["predictions"][0]["x"] += 0.25
    b["predictions"][0]["keypoints"][0]["y"] += 0.5
    b["predictions"][1]["points"] = polygon(*LOWER)["points"]
    b["predictions"][1]["confidence"] = 0.625
    found = compare(a, b, Limits(confidence=1, mask_iou=0.9))
    assert found.differences == []
    assert found.counts == (2, 2)
    assert found.measures == pytest.approx(
        {"box_px": 0.25, "confidence": 0.275, "keypoint_px": 0.5, "mask_iou": 20 / 22}
    )


def test_limits_are_the_callers():
    a, b = answer(box()), answer(box(x=53.0, confidence=0.8))
    assert compare(a, b, Limits(box_px=3, confidence=0.11)).differences == []


def test_boxes_pair_with_the_nearest_of_their_class():
    a = [box(x=10.0), box(x=14.0), box("dog", x=10.0)]
    b = [box(x=13.0), box("dog", x=11.0), box(x=11.0), box(x=60.0)]
    assert pair(a, b) == [(0, 2), (1, 0), (2, 1)]
    assert pair([], b) == []


def test_corners_of_a_box():
    assert box_corners([box(x=50.0, y=40.5)]).tolist() == [[40, 35.5, 60, 45.5]]


@pytest.mark.parametrize(
    ("counts", "size_wh", "expected"),
    [
        pytest.param("12", (3, 1), [[0, 1, 1]], id="zeros come first"),
        pytest.param("03", (3, 1), [[1, 1, 1]], id="nothing of zeros"),
        pytest.param("132", (2, 3), [[0, 1], [1, 0], [1, 0]], id="columns before rows"),
        pytest.param("223O", (8, 1), [[0, 0, 1, 1, 0, 0, 0, 1]], id="runs by difference"),
        pytest.param("X12", (42, 1), [[0] * 40 + [1, 1]], id="a run of two characters"),
    ],
)
def test_run_lengths(counts, size_wh, expected):
    assert decode_rle(counts, size_wh).tolist() == expected


def test_run_lengths_that_do_not_fill_the_mask():
    with pytest.raises(ValueError, match=r"3 pixels for a mask of 2 x 2"):
        decode_rle("12", (2, 2))


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        pytest.param([[1, 1, 0]], [[0, 1, 1]], 1 / 3, id="overlap"),
        pytest.param([[0, 0]], [[0, 0]], 1, id="both empty"),
        pytest.param([[1, 0]], [[0, 1]], 0, id="apart"),
        pytest.param([[1, 1]], [[1]], 0, id="other sizes"),
    ],
)
def test_mask_overlap(a, b, expected):
    assert mask_iou(np.array(a, np.uint8), np.array(b, np.uint8)) == pytest.approx(expected)


def test_a_server_agrees_with_itself(server, capsys):
    assert main([server, server, "--model", DEMO_MODEL, *PICTURES]) == 0
    head, *lines, last = capsys.readouterr().out.splitlines()
    assert head.split() == [
        *("model", "picture", "masks", "A", "B"),
        *("box_px", "confidence", "mask_iou", "keypoint_px", "pixels"),
    ]
    assert [line.split()[:2] for line in lines] == [
        [DEMO_MODEL, f"inspection-{number}.jpg"] for number in (1, 2, 3)
    ]
    assert last == "3 of 3 answers agree"


def test_another_confidence_is_reported(server):
    asked = Server(server)
    route = asked.route(DEMO_MODEL)
    body = {"model_id": DEMO_MODEL, "image": picture_object(EXAMPLES / "inspection-1.jpg")}
    many, few = (asked.post(route, {**body, "confidence": value}) for value in (0.1, 0.9))
    found = compare(many, few, Limits())
    assert found.counts[0] > found.counts[1]
    assert found.differences[0].startswith("number of predictions: A has")
    assert any(line.startswith("only A has") for line in found.differences)


def test_a_difference_is_exit_status_1_and_readable_as_json(server, capsys):
    # No box is within -1 pixel of another: every pair is a difference.
    arguments = [server, server, "--model", f"{DEMO_MODEL}:{DEMO_MODEL}", PICTURES[0]]
    assert main([*arguments, "--limit-box-px", "-1", "--json"]) == 1
    (row,) = json.loads(capsys.readouterr().out)
    assert row["agree"] is False
    assert row["measures"] == {"box_px": 0, "confidence": 0}
    assert len(row["differences"]) == row["counts"][0] == row["counts"][1]


def test_a_model_that_one_server_lacks_is_a_difference(server, capsys):
    models = ["--model", f"{DEMO_MODEL}:other/1", "--model", DEMO_MODEL]
    assert main([server, server, *models, PICTURES[0]]) == 1
    _, lacking, why, _, last = capsys.readouterr().out.splitlines()
    assert lacking.endswith("DIFFER")
    assert f"{server}/model/add: 404" in why
    assert last == "1 of 2 answers agree"


def test_a_server_that_is_not_there_is_a_difference(server, capsys):
    nowhere = f"http://127.0.0.1:{free_port()}"
    assert main([nowhere, server, "--model", DEMO_MODEL, PICTURES[0]]) == 1
    assert f"{nowhere}/model/add: " in capsys.readouterr().out


def test_both_servers_may_refuse_a_picture(server, capsys, tmp_path):
    text = tmp_path / "text.jpg"
    text.write_bytes(b"no picture")
    assert main([server, server, "--model", DEMO_MODEL, str(text)]) == 1
    _, _, *refusals, last = capsys.readouterr().out.splitlines()
    assert [" 400 " in refusal for refusal in refusals] == [True, True]
    assert last == "0 of 1 answers agree"


def test_a_picture_that_is_not_there_is_refused(server, capsys):
    with pytest.raises(SystemExit):
        main([server, server, "--model", DEMO_MODEL, "missing.jpg"])
    assert "there is no picture missing.jpg" in capsys.readouterr().err
