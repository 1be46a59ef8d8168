"""Which task and family a bare ONNX file is. When two readings are possible, the user decides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edge_server.errors import PackageError
from edge_server.models.families import (
    BACKBONES,
    CLASSIFICATION,
    KEYPOINTS,
    MULTI_LABEL,
    SEMANTIC,
    check_family,
    check_task,
    families,
    family_of,
)
from edge_server.models.onnx_file import OnnxFacts, OnnxMetadata
from edge_server.models.readings import Reading, possible_readings

_INSTEAD = "Supported instead: object-detection with its upright boxes, and rfdetr or yolo26."


@dataclass(frozen=True)
class Hints:
    """What the user says about a model, None where the files are to say it.

    Attributes:
        task: in the API's terms.
        family: any model type of it.
        class_names: by class id.
    """

    task: str | None = None
    family: str | None = None
    class_names: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Identity:
    """What a network is.

    Attributes:
        task: in the API's terms.
        family: the key of its decoder.
        class_names: by class id; numbers when nobody names them.
        numbered: nobody names the classes.
        fused: the graph ends in NMS, softmax or sigmoid.
        keypoint_count: per object, for keypoint detection.
    """

    task: str
    family: str
    class_names: tuple[str, ...]
    numbered: bool
    fused: bool
    keypoint_count: int


def identify(facts: OnnxFacts, hints: Hints) -> Identity:
    """Task, family and classes of a network.

    Raises:
        PackageError: it is of a kind that cannot be served, contradicts the hints, or can be
            read in two ways; says what was found and what to do.
    """
    _refuse_what_says_it_is_another(facts)
    task = _task(facts, hints.task)
    family = check_family(hints.family, task) if hints.family else None
    names = hints.class_names or facts.metadata.class_names
    readings = _readings(facts, task, family, names)
    reading = _the_one(facts, readings, family)
    family = family or _representative(reading, facts.metadata)
    counts = reading.class_counts
    if names is None and not counts:
        raise PackageError(
            f"{facts.file} does not name its classes, and its outputs do not show how many there "
            "are. Give it --classes FILE, with one name per line."
        )
    return Identity(
        task=reading.task,
        family=family,
        class_names=names or tuple(str(index) for index in range(counts[0])),
        numbered=names is None,
        fused=reading.fused,
        keypoint_count=reading.keypoint_count,
    )


def _task(facts: OnnxFacts, hinted: str | None) -> str | None:
    said = facts.metadata.task
    if hinted is None:
        return check_task(said) if said else None
    check_task(hinted)
    if said not in (None, hinted) and (said, hinted) != (CLASSIFICATION, MULTI_LABEL):
        raise PackageError(f"{facts.file} says that its task is {said}, not {hinted}.")
    return hinted


def _readings(
    facts: OnnxFacts, task: str | None, family: str | None, names: tuple[str, ...] | None
) -> list[Reading]:
    """The readings that agree with everything that is known."""
    found = possible_readings(facts, task, len(names) if names else None)
    if not found:
        raise PackageError(_nothing_fits(facts, task))
    fitting = [reading for reading in found if task in (None, reading.task)]
    if not fitting:
        others = ", ".join(dict.fromkeys(reading.task for reading in found))
        raise PackageError(
            f"{facts.file} is said to do {task}; its outputs are those of {others}: {facts}."
        )
    supported = [reading for reading in fitting if not reading.refused]
    if not supported:
        raise PackageError(_refusal(facts, fitting[0].refused))
    if family is not None:
        kept = [reading for reading in supported if family in reading.families]
        if not kept:
            raise PackageError(
                f"{facts.file} does not look like {family}: its outputs are those of "
                f"{_named(supported)}: {facts}. Choose one of these with --family."
            )
        fitting = kept
    fitting = _agreeing_with(facts.metadata, fitting)
    if names is None:
        return fitting
    kept = [item for item in fitting if not item.class_counts or len(names) in item.class_counts]
    if not kept:
        raise PackageError(_wrong_count(facts, fitting, len(names)))
    if kept[0].refused:
        raise PackageError(_refusal(facts, kept[0].refused))
    return kept


def _agreeing_with(metadata: OnnxMetadata, readings: list[Reading]) -> list[Reading]:
    """Drop readings that the metadata speaks against, unless it speaks against all."""
    end_to_end = metadata.end_to_end and not metadata.nms
    tests: list[tuple[bool, Callable[[Reading], bool]]] = [
        (metadata.ultralytics, lambda item: not _is_foreign(item)),
        (bool(metadata.nms), lambda item: item.fused),
        (metadata.end_to_end is False, lambda item: item.fused or bool(item.class_counts)),
        (bool(end_to_end), lambda item: not item.fused),
        (_hinted(metadata) is not None, lambda item: _hinted(metadata) in item.families),
    ]
    for applies, test in tests:
        kept = [reading for reading in readings if test(reading)]
        readings = kept if applies and kept else readings
    return readings


def _is_foreign(reading: Reading) -> bool:
    return bool(reading.refused) or set(reading.families) <= {*BACKBONES}


def _hinted(metadata: OnnxMetadata) -> str | None:
    """The family that the metadata names; the shape still decides about its layout."""
    if metadata.head == "v10Detect":
        return "yolov10"
    if metadata.architecture is not None:
        return family_of(metadata.architecture)
    # Of the heads that end without NMS, only YOLO26's keeps the plain names.
    return "yolo26" if metadata.end_to_end else None


def _the_one(facts: OnnxFacts, readings: Sequence[Reading], family: str | None) -> Reading:
    reading = readings[0]
    alike = reading.alike or family is not None or _chosen(reading, facts.metadata) is not None
    if len(readings) == 1 and alike:
        return reading
    served = list(dict.fromkeys(name for item in readings for name in item.families[:4]))
    refused = [f"{item.refused} (not supported)" for item in readings if item.refused]
    tasks = list(dict.fromkeys(item.task for item in readings if not item.refused))
    advice = "Say which of these it is with --family NAME"
    if len(tasks) > 1 or refused:
        advice += f" and --task {' or --task '.join(tasks)}"
    if any(item.fused for item in readings) and any(not item.fused for item in readings):
        added = next(item.families[0] for item in readings if item.fused)
        advice += f"; {added} stands for any that had NMS added by its exporter"
    raise PackageError(
        f"{facts.file} can be read as {' or '.join(served + refused)}, and nothing in it decides: "
        f"{facts}. {advice}."
    )


def _chosen(reading: Reading, metadata: OnnxMetadata) -> str | None:
    """The family of several that the metadata names, or that alone has such an exporter."""
    hinted = _hinted(metadata)
    if hinted in reading.families:
        return hinted
    return "yolo26" if reading.task == SEMANTIC and metadata.ultralytics else None


def _representative(reading: Reading, metadata: OnnxMetadata) -> str:
    return _chosen(reading, metadata) or reading.families[0]


def _named(readings: Sequence[Reading]) -> str:
    names = dict.fromkeys(name for reading in readings for name in reading.families)
    return ", ".join(names)


def _wrong_count(facts: OnnxFacts, readings: Sequence[Reading], count: int) -> str:
    room = sorted({number for reading in readings for number in reading.class_counts[:1]})
    text = (
        f"{facts.file} has {count} class names; its output has room for "
        f"{' or '.join(map(str, room))}: {facts}."
    )
    if count + 1 in room:
        text += (
            " One column more than classes is what exports of oriented boxes (OBB) have; those "
            "are not supported."
        )
    return text


def _nothing_fits(facts: OnnxFacts, task: str | None) -> str:
    known = ", ".join(families(task)) if task else "those listed in docs/models.md"
    text = (
        f"{facts.file} cannot be used: the outputs of no supported family look like this: {facts}. "
        f"Supported families{f' for {task}' if task else ''}: {known}."
    )
    if task == KEYPOINTS and facts.metadata.keypoint_shape is None:
        return text + " If it finds keypoints, name its classes with --classes FILE."
    if task is None:
        return text + f" If it finds keypoints, say --task {KEYPOINTS}."
    return text


def _refuse_what_says_it_is_another(facts: OnnxFacts) -> None:
    metadata, outputs = facts.metadata, facts.outputs
    if metadata.head == "RTDETRDecoder":
        raise PackageError(_refusal(facts, "an RT-DETR export of Ultralytics"))
    if metadata.task == "obb" or metadata.head == "OBB":
        raise PackageError(_refusal(facts, "a network for oriented boxes (OBB)"))
    if metadata.task in ("depth", "depth-estimation") or metadata.head == "Depth":
        raise PackageError(_refusal(facts, "a network that measures depth"))
    if "pred_logits" in outputs or {"logits", "pred_boxes"} <= set(outputs):
        raise PackageError(_refusal(facts, "a raw DETR export"))
    shapes = [array.shape for array in outputs.values()]
    if len(shapes) == 5 and any(len(shape) == 2 and shape[1] == 4 for shape in shapes):
        raise PackageError(_refusal(facts, "a YOLACT export"))
    shape = metadata.keypoint_shape
    if shape is not None and shape[1] != 3:
        raise PackageError(
            f"{facts.file} has keypoints of {shape[1]} numbers (kpt_shape {list(shape)}); expected "
            "3: x, y and visibility. Train it with a kpt_shape of [K, 3]."
        )


def _refusal(facts: OnnxFacts, kind: str) -> str:
    return f"{facts.file} is {kind}, which is not supported: {facts}. {_INSTEAD}"
