"""Heads of every layout, built on a network that sees colours: see ``tests.networks``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from benchmarks.networks import PROTOTYPES, STRIDES, Graph, cell_centres

QUERIES = 20

Outputs = dict[str, str]
Head = Callable[["Seen"], Outputs]


class Seen:
    """What every head is built from: colours per cell, in a graph for pictures of one size."""

    def __init__(self, graph: Graph, size_hw: tuple[int, int]) -> None:
        self.graph = graph
        self.height, self.width = size_hw
        centres, strides = cell_centres(*size_hw)
        self.centres, self.strides = centres, strides
        self.cells = len(strides)

    def colour_map(self, stride: int, *, gain: float = 20, rows: int = 3) -> str:
        """Logits (B, rows, H / stride, W / stride); rows beyond the colours are zero."""
        mix = gain * (1.25 * np.eye(3) - 0.25)
        weights = np.zeros((rows, 3, stride, stride), np.float32)
        weights[:3] = mix[:, :, None, None] / stride**2
        bias = np.zeros(rows, np.float32)
        bias[:3] = -0.6 * gain
        return self.graph.conv("images", weights, bias, stride=stride)

    def logits(self, *, gain: float = 20) -> str:
        """Class logits (B, 3, N) of all cells."""
        parts = [self.colour_map(stride, gain=gain) for stride in STRIDES]
        parts = [self.graph.reshape(part, 0, 3, -1) for part in parts]
        return self.graph.add("Concat", *parts, axis=2)

    def best(self, scores: str) -> str:
        """The best of the classes, (B, 1, N)."""
        return self.graph.add("ReduceMax", scores, axes=[1], keepdims=1)

    def boxes(self, scores: str, *, scale: float = 2, xyxy: bool = False) -> str:
        """Boxes (B, 4, N) around the cells, ``scale`` strides large."""
        halves = np.stack([self.strides, self.strides]) * scale / 2
        low, high = self.centres - halves, self.centres + halves
        rows = (low, high) if xyxy else (self.centres, 2 * halves)
        return self.repeated(np.concatenate(rows), scores)

    def repeated(self, rows: NDArray[Any], like: str) -> str:
        """The constant (R, N), once for each picture of the batch of ``like`` (B, C, N)."""
        zero = self.graph.add("Mul", self.best(like), self.graph.constant(np.zeros(1)))
        return self.graph.add("Add", zero, self.graph.constant(rows[None].astype(np.float32)))

    def coefficients(self, scores: str) -> str:
        """Mask coefficients (B, 32, N): each class takes the prototype of its colour."""
        return self.graph.add(
            "MatMul", self.graph.constant(np.eye(PROTOTYPES, 3, dtype=np.float32)), scores
        )

    def keypoints(self, scores: str) -> str:
        """Two keypoints (B, 6, N) beside the centre, as visible as the object is sure."""
        rows = np.zeros((6, self.cells))
        rows[[0, 3]] = self.centres[0] + np.stack([-self.strides, self.strides]) / 2
        rows[[1, 4]] = self.centres[1]
        seen = np.array([0, 0, 1, 0, 0, 1], np.float32).reshape(1, 6, 1)
        seen_rows = self.graph.add("Mul", self.best(scores), self.graph.constant(seen))
        return self.graph.add("Add", seen_rows, self.graph.constant(rows[None]))

    def columns(self, *parts: str) -> str:
        """Parts (B, R, N) beside each other, one row per cell: (B, N, R)."""
        joined = self.graph.add("Concat", *parts, axis=1) if len(parts) > 1 else parts[0]
        return self.graph.add("Transpose", joined, perm=[0, 2, 1])

    def top(self, rows: str, scores: str, count: int) -> str:
        """The ``count`` rows of (B, N, R) whose cells are the surest, best first."""
        best = self.graph.reshape(self.best(scores), 0, -1)
        count = min(count, self.cells)
        self.graph.add(
            "TopK", best, self.graph.constant(np.array([count], np.int64)), outputs=2, axis=1
        )
        indices = self.graph.reshape(self.graph.last_output(), 0, -1, 1)
        return self.graph.add("GatherND", rows, indices, batch_dims=1)


def _anchor_free(seen: Seen, *extra: str, scores: str) -> str:
    return seen.graph.add("Concat", seen.boxes(scores), scores, *extra, axis=1)


def _scores(seen: Seen) -> str:
    return seen.graph.add("Sigmoid", seen.logits())


def raw_detector(seen: Seen) -> Outputs:
    """(B, 4 + C, N)."""
    return {"output0": _anchor_free(seen, scores=_scores(seen))}


def raw_segmenter(seen: Seen) -> Outputs:
    """(B, 4 + C + 32, N) and prototypes."""
    scores = _scores(seen)
    head = _anchor_free(seen, seen.coefficients(scores), scores=scores)
    return {"output0": head, "output1": seen.colour_map(4, rows=PROTOTYPES)}


def raw_pose(seen: Seen) -> Outputs:
    """(B, 4 + C + 3 K, N)."""
    scores = _scores(seen)
    return {"output0": _anchor_free(seen, seen.keypoints(scores), scores=scores)}


def _rows_with_nms(seen: Seen, scores: str, extra: Sequence[str], *, padded: bool) -> str:
    """(B, K, 6 + extra): x1, y1, x2, y2, score, class; ``padded`` empties rows below 0.25."""
    graph = seen.graph
    classes = graph.add("ArgMax", scores, axis=1, keepdims=1)
    classes = graph.add("Cast", classes, to=graph.dtype)
    best = seen.best(scores)
    rows = seen.columns(seen.boxes(scores, xyxy=True), best, classes, *extra)
    if padded:
        sure = graph.add("Greater", best, graph.constant(np.array(0.25)))
        sure = graph.add("Cast", sure, to=graph.dtype)
        rows = graph.add("Mul", rows, seen.columns(sure))
    return seen.top(rows, scores, 300)


def end_to_end(*, padded: bool = False, task: str = "detect") -> Head:
    """(B, K, 6), (B, K, 38) with prototypes, or (B, K, 6 + 3 K)."""

    def build(seen: Seen) -> Outputs:
        scores = _scores(seen)
        extra = {"detect": [], "segment": [seen.coefficients], "pose": [seen.keypoints]}[task]
        parts = [make(scores) for make in extra]
        outputs = {"output0": _rows_with_nms(seen, scores, parts, padded=padded)}
        if task == "segment":
            outputs["output1"] = seen.colour_map(4, rows=PROTOTYPES)
        return outputs

    return build


def with_objectness(*, raw_heads: int = 0, protos_at: int | None = None) -> Head:
    """(B, 3 N, 5 + C (+ 32)), three anchors per cell, then raw heads and prototypes."""

    def build(seen: Seen) -> Outputs:
        scores = _scores(seen)
        extra = [seen.coefficients(scores)] if protos_at else []
        parts = [
            seen.columns(seen.boxes(scores, scale=scale), seen.best(scores), scores, *extra)
            for scale in (2, 1, 4)
        ]
        outputs = [seen.graph.add("Concat", *parts, axis=1)]
        for stride in STRIDES[:raw_heads]:
            raw = seen.colour_map(stride, rows=24)
            grid = (seen.height // stride, seen.width // stride)
            outputs.append(seen.graph.reshape(raw, 0, 3, *grid, 8))
        if protos_at:
            outputs.insert(protos_at, seen.colour_map(4, rows=PROTOTYPES))
        return {f"output{index}": name for index, name in enumerate(outputs)}

    return build


def yolonas(seen: Seen) -> Outputs:
    """Boxes xyxy (B, N, 4) and scores (B, N, C)."""
    scores = _scores(seen)
    return {
        "boxes": seen.columns(seen.boxes(scores, xyxy=True)),
        "scores": seen.columns(scores),
    }


def yololite(seen: Seen) -> Outputs:
    """Boxes xyxy (B, N, 4), logits of objects (B, N, 1) and of classes (B, N, C)."""
    logits = seen.logits()
    return {
        "boxes": seen.columns(seen.boxes(logits, xyxy=True)),
        "objects": seen.columns(seen.best(logits)),
        "classes": seen.columns(logits),
    }


def rfdetr(*, background: str = "", masks: bool = False, named: bool = True) -> Head:
    """Boxes cxcywh from 0 to 1 (B, Q, 4), logits (B, Q, C), and mask logits (B, Q, h, w).

    ``background`` puts a column of no class ``first`` or ``last``.
    """

    def build(seen: Seen) -> Outputs:
        graph, logits = seen.graph, seen.logits(gain=5)
        size = np.array([seen.width, seen.height] * 2).reshape(1, 4, 1)
        boxes = graph.add("Div", seen.boxes(logits), graph.constant(size.astype(np.float32)))
        nothing = seen.repeated(np.full((1, seen.cells), -10.0), logits)
        columns = {"": [logits], "first": [nothing, logits], "last": [logits, nothing]}[background]
        outputs = {
            "dets" if named else "a": seen.top(seen.columns(boxes), logits, QUERIES),
            "labels" if named else "b": seen.top(seen.columns(*columns), logits, QUERIES),
        }
        if masks:
            grid = (seen.height // 4, seen.width // 4)
            maps = graph.reshape(seen.colour_map(4), 0, 3, -1)
            classes = seen.top(seen.columns(graph.add("Sigmoid", logits)), logits, QUERIES)
            queries = min(QUERIES, seen.cells)
            product = graph.reshape(graph.add("MatMul", classes, maps), 0, queries, *grid)
            outputs["masks" if named else "c"] = product
        return outputs

    return build


def classifier(activation: str = "") -> Head:
    """(B, C): logits, or what ``activation`` makes of them."""

    def build(seen: Seen) -> Outputs:
        pooled = seen.graph.add("GlobalAveragePool", seen.colour_map(8))
        logits = seen.graph.add("Flatten", pooled)
        return {"output0": seen.graph.add(activation, logits) if activation else logits}

    return build


def semantic(
    stride: int = 1, *, background: bool = True, best: bool = False, fused: bool = False
) -> Head:
    """(B, K, H / stride, W / stride) logits, or with ``best`` (B, h, w) numbers of classes.

    With ``background`` the last class is none of the colours; ``fused`` makes probabilities.
    """

    def build(seen: Seen) -> Outputs:
        logits = seen.colour_map(stride, rows=4 if background else 3)
        if fused:
            return {"output0": seen.graph.add("Softmax", logits, axis=1)}
        if not best:
            return {"output0": logits}
        classes = seen.graph.add("ArgMax", logits, axis=1, keepdims=0)
        return {"output0": seen.graph.add("Cast", classes, to=TensorProto.UINT8)}

    return build
