"""Which task and family a network is. When two readings are possible, the user decides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from edge_server.errors import PackageError
from edge_server.models.families import (
    ANCHOR_FREE,
    CLASSIFICATION,
    KEYPOINTS,
    MULTI_LABEL,
    check_family,
    check_task,
    families,
)
from edge_server.models.onnx_file import OnnxFacts, OnnxMetadata
from edge_server.models.readings import DEPTH, RTDETR, Reading, possible_readings


@dataclass(frozen=True)
class Hints:
    """What is said about a model, None where its network is to show it.

    Attributes:
        task: in the API's terms.
        family: any model type of it.
        class_names: by class id.
    """

    task: str | None = None
    family: str | None = None
    class_names: tuple[str, ...] | None = None

    def joined(self, file: str, task: str | None, family: str | None = None) -> Hints:
        """These hints, and the task and family that ``file`` says.

        Raises:
            PackageError: they differ, or are not served.
        """
        task = self._agreed(file, "task", task, self.task)
        if task is not None:
            check_task(task)
        said, hinted = (name and check_family(name, task) for name in (family, self.family))
        return replace(self, task=task, family=self._agreed(file, "family", said, hinted))

    def _agreed(self, file: str, what: str, said: str | None, hinted: str | None) -> str | None:
        if said and hinted and said != hinted:
            raise PackageError(f"{file} says that its {what} is {said}, not {hinted}.")
        return said or hinted


def identify(facts: OnnxFacts, hints: Hints) -> Reading:
    """The one way to read a network, with its one family.

    Raises:
        PackageError: it is of a kind that cannot be served, contradicts the hints, or can be
            read in two ways; says what was found and what to do.
    """
    kind = _unsupported_kind(facts)
    if kind is not None:
        raise PackageError(_unsupported(facts, kind))
    metadata = facts.metadata
    # What Ultralytics calls a classifier may be trained for several labels all the same.
    any_label = (metadata.task, hints.task) == (CLASSIFICATION, MULTI_LABEL)
    hints = hints.joined(facts.file, None if any_label else metadata.task)
    names = hints.class_names or metadata.class_names
    readings = _readings(facts, hints, len(names) if names else None)
    known = hints.family or metadata.family
    if len(readings) > 1 and known not in readings[0].families:
        raise PackageError(_ambiguous(facts, readings))
    reading = readings[0]
    return replace(reading, families=(known,)) if known in reading.families else reading


def class_names_of(facts: OnnxFacts, reading: Reading, hints: Hints) -> tuple[str, ...]:
    """By class id; numbers when nobody names them.

    Raises:
        PackageError: nobody does, and their number cannot be seen.
    """
    names = hints.class_names or facts.metadata.class_names
    if names is None and not reading.class_counts:
        raise PackageError(
            f"{facts.file} does not name its classes, and its outputs do not show how many there "
            "are. Give it --classes FILE, with one name per line."
        )
    return names or tuple(str(index) for index in range(reading.class_counts[0]))


def _readings(facts: OnnxFacts, hints: Hints, class_count: int | None) -> list[Reading]:
    """The readings that agree with everything that is known; one of them can be served."""
    task, family = hints.task, hints.family
    found = possible_readings(facts, task, class_count)
    if not found:
        raise PackageError(_nothing_fits(facts, task))
    fitting = [reading for reading in found if task in (None, reading.task)]
    if not fitting:
        others = ", ".join(dict.fromkeys(reading.task for reading in found))
        raise PackageError(
            f"{facts.file} is said to do {task}; its outputs are those of {others}: {facts}."
        )
    if not any(reading.served for reading in fitting):
        raise PackageError(_unsupported(facts, fitting[0].family))
    if family is not None:
        served = [reading for reading in fitting if reading.served]
        fitting = [reading for reading in served if family in reading.families]
        if not fitting:
            raise PackageError(
                f"{facts.file} does not look like {family}: its outputs are those of "
                f"{', '.join(_names(served))}: {facts}. Choose one of these with --family."
            )
    fitting = _agreeing_with(facts.metadata, fitting, family or facts.metadata.family)
    if class_count is None:
        return fitting
    kept = [item for item in fitting if class_count in (item.class_counts or [class_count])]
    if not kept:
        raise PackageError(_wrong_count(facts, fitting, class_count))
    if not any(reading.served for reading in kept):
        raise PackageError(_unsupported(facts, kept[0].family))
    return kept


def _agreeing_with(
    metadata: OnnxMetadata, readings: list[Reading], family: str | None
) -> list[Reading]:
    """Drop readings that the metadata speaks against, unless it speaks against all."""
    nms_inside = metadata.nms_inside
    tests: list[tuple[bool, Callable[[Reading], bool]]] = [
        (metadata.ultralytics, lambda item: item.family in ANCHOR_FREE),
        # Layouts that show the number of classes have no such rows.
        (nms_inside is not None, lambda item: bool(item.class_counts) or item.fused == nms_inside),
        (family is not None, lambda item: family in item.families),
    ]
    for applies, test in tests:
        kept = [reading for reading in readings if test(reading)]
        readings = kept if applies and kept else readings
    return readings


def _unsupported_kind(facts: OnnxFacts) -> str | None:
    """What the file says that it is, when that cannot be served."""
    metadata, outputs = facts.metadata, facts.outputs
    if metadata.family == "rtdetr":
        return RTDETR
    if metadata.task == "obb":
        return "a network for oriented boxes (OBB)"
    if metadata.task == "depth":
        return DEPTH
    if "pred_logits" in outputs or {"logits", "pred_boxes"} <= set(outputs):
        return "a raw DETR export"
    shapes = [array.shape for array in outputs.values()]
    if len(shapes) == 5 and any(len(shape) == 2 and shape[1] == 4 for shape in shapes):
        return "a YOLACT export"
    return None


def _unsupported(facts: OnnxFacts, kind: str) -> str:
    return (
        f"{facts.file} is {kind}, which is not supported: {facts}. "
        "Supported instead: object-detection with its upright boxes, and rfdetr or yolo26."
    )


def _names(readings: Sequence[Reading]) -> list[str]:
    return list(dict.fromkeys(name for reading in readings for name in reading.families))


def _ambiguous(facts: OnnxFacts, readings: Sequence[Reading]) -> str:
    served = [reading for reading in readings if reading.served]
    refused = [f"{item.family} (not supported)" for item in readings if not item.served]
    tasks = list(dict.fromkeys(reading.task for reading in served))
    advice = "Say which of these it is with --family NAME"
    if len(tasks) > 1 or refused:
        advice += f" and --task {' or --task '.join(tasks)}"
    if len({reading.fused for reading in served}) > 1:
        added = next(reading.family for reading in served if reading.fused)
        advice += f"; {added} stands for any that had NMS added by its exporter"
    return (
        f"{facts.file} can be read as {' or '.join(_names(served) + refused)}, and nothing in it "
        f"decides: {facts}. {advice}."
    )


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
    if task == KEYPOINTS and facts.metadata.keypoint_count is None:
        return text + " If it finds keypoints, name its classes with --classes FILE."
    if task is None:
        return text + f" If it finds keypoints, say --task {KEYPOINTS}."
    return text
