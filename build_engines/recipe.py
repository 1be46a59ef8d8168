"""What is to be built, and the pure decisions about it. No TensorRT, no ONNX, no disk."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from engines.artifact import EngineHost, EngineKey

Precision: TypeAlias = Literal["fp32", "fp16", "int8"]
FailureKind: TypeAlias = Literal[
    "parser",  # TensorRT cannot read the network
    "unsupported",  # this TensorRT never will build it, or not for this GPU
    "out_of_memory",
    "no_memory_yet",  # not started
    "crashed",
    "timed_out",
    "cancelled",
    "refused",  # built, but it does not answer like the weights
    "other",
]
# Part of every key: raise it when a change to graph.py, half.py or int8.py alters what comes out.
_SURGERY = 1
_LEAST_WORKSPACE_MIB = 128  # far below it builds fail outright
_NO_INT8 = frozenset({"5.3", "6.2"})  # compute capabilities of the first Jetsons


@dataclass(frozen=True)
class PixelInput:
    """How uint8 BGR pixels become what the network was trained to see.

    Attributes:
        rgb: whether the network wants red first.
        scaling: values are divided by it.
        normalization: means and deviations by channel of the network, after scaling.
    """

    rgb: bool = True
    scaling: float = 255.0
    normalization: tuple[tuple[float, ...], tuple[float, ...]] | None = None


@dataclass(frozen=True)
class DeviceFacts:
    """The device: ``memory_mib`` is the GPU's, on a Jetson the board's.

    ``has_onnx``: the package is installed, so that graphs can be changed.
    """

    host: EngineHost
    memory_mib: int
    has_onnx: bool = True


@dataclass(frozen=True)
class ModelFacts:
    """The model: ``static_batch`` is fixed in the network, ``max_batch`` the most that is worth it.

    ``calibrated``: there are pictures to find the ranges of INT8 with.
    """

    size_wh: tuple[int, int]
    static_batch: int | None
    max_batch: int
    pixels: PixelInput
    calibrated: bool = False


@dataclass(frozen=True)
class BuildRecipe:
    """What is to be built, and with what means.

    Attributes:
        precision: of the heavy part of the network.
        batch: least, usual and most pictures per pass.
        size_wh: of the pictures.
        pixels: None keeps the float input of the weights.
        strongly_typed: precision stands in the graph; else the builder is told by flags.
        workspace_mib: what one layer may use while it runs.
        optimization_level: 0 to 5; how long the builder looks for faster kernels.
        memory_mib: resident memory at which a build is stopped.
        no_progress_s: silence after which a build counts as hung.
        total_s: longest build.
        kill_grace_s: time to end by itself after it was told to.
    """

    precision: Precision
    batch: tuple[int, int, int]
    size_wh: tuple[int, int]
    pixels: PixelInput | None
    strongly_typed: bool
    workspace_mib: int
    optimization_level: int
    memory_mib: int
    no_progress_s: float = 600
    total_s: float = 3600
    kill_grace_s: float = 10

    def key(
        self, weights_sha256: str, host: EngineHost, calibration_sha256: str | None = None
    ) -> EngineKey:
        """The key of what comes out. Take it from the recipe that ``choose_recipe`` gave.

        A build that ran out of memory goes on with less means under the same key, so that its
        engine is found again.
        """
        return EngineKey(
            weights_sha256=weights_sha256,
            graph=f"surgery {_SURGERY}, {self.pixels or 'float input'}",
            precision=self.precision,
            batch=self.batch,
            size_wh=self.size_wh,
            host=host,
            flags=(
                "strongly typed" if self.strongly_typed else "weakly typed",
                f"workspace {self.workspace_mib} MiB",
                f"level {self.optimization_level}",
            ),
            calibration_sha256=calibration_sha256 if self.precision == "int8" else None,
        )


def choose_recipe(
    device: DeviceFacts,
    model: ModelFacts,
    precision: Precision | Literal["auto"] = "auto",
    refused: frozenset[Precision] = frozenset(),
) -> BuildRecipe | None:
    """The recipe for ``model`` on ``device``; None when no precision is left to try.

    Args:
        device: where it is built and run.
        model: what is built.
        precision: ``auto`` for the fastest that was not refused.
        refused: precisions whose engines did not answer like the weights.
    """
    major = int(device.host.tensorrt.partition(".")[0])
    can: list[Precision] = ["fp32"]
    if device.has_onnx or major < 11:  # 11 knows no flags
        can.insert(0, "fp16")
    if device.has_onnx and model.calibrated:  # never unless its pictures were given
        if device.host.compute_capability not in _NO_INT8:
            can.insert(0, "int8")
    left = [each for each in can if each not in refused and precision in ("auto", each)]
    if not left:
        return None
    workspace_mib, level, most = _means(device.memory_mib)
    fixed = model.static_batch
    return BuildRecipe(
        precision=left[0],
        batch=(fixed, fixed, fixed) if fixed else (1, 1, max(1, min(most, model.max_batch))),
        size_wh=model.size_wh,
        pixels=model.pixels if device.has_onnx else None,
        strongly_typed=major >= 11 or (major == 10 and device.has_onnx),
        workspace_mib=workspace_mib,
        optimization_level=level,
        memory_mib=device.memory_mib * 6 // 10,
    )


def next_rung(recipe: BuildRecipe, failure: FailureKind) -> BuildRecipe | None:
    """The recipe to go on with after ``failure``; None when going on is of no use."""
    half, lower = recipe.workspace_mib // 2, recipe.optimization_level - 1
    if failure != "out_of_memory" or half < _LEAST_WORKSPACE_MIB or lower < 1:
        return None
    return replace(recipe, workspace_mib=half, optimization_level=lower)


def needed_mib(weights_bytes: int) -> int:
    """Free memory that a build needs to start: a builder holds the network several times."""
    return max(1536, 3 * (weights_bytes >> 20) + 1024)


def minutes_left(elapsed_s: float, fraction: float) -> int | None:
    """Minutes to the end of a build, rounded up; None while too little is known."""
    if elapsed_s < 5 or fraction < 0.02:
        return None
    return -int(-elapsed_s * (1 - fraction) / fraction // 60)


def _means(memory_mib: int) -> tuple[int, int, int]:
    """Workspace in MiB, optimization level and largest batch.

    A board shares its memory between builder, serving and system; comparing kernels for a range
    of batches takes more of it.
    """
    if memory_mib <= 5 * 1024:
        return 512, 2, 1
    if memory_mib <= 10 * 1024:
        return 2048, 3, 4
    return 4096, 3, 8
