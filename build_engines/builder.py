"""The only file that touches ``trt.Builder``: an ONNX file in, a plan out. Build process only.

TensorRT seldom raises: it answers None or False and says why in its log. Versions differ in how
precision is told (by flags up to 10, in the graph from 10 on), and 8 tells no progress.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorrt as trt

from build_engines.recipe import BuildRecipe, FailureKind
from engines.files import publish_file
from engines.trt import LOG

OnProgress = Callable[[float | None, str], bool]
"""Takes the fraction done, None when unknown, and the phase; False cancels the build."""

# What TensorRT's log has, in lower case, when a build gave nothing; the first match counts.
_REASONS: tuple[tuple[str, FailureKind, str], ...] = (
    ("buildcanceled", "cancelled", "The build was cancelled."),
    ("workspace limit", "other", "The workspace is too small: give --workspace-mib more."),
    ("workspace memory", "other", "The workspace is too small: give --workspace-mib more."),
    ("target gpu sm", "unsupported", "This TensorRT does not support this GPU."),
    ("out of memory", "out_of_memory", "The device ran out of memory."),
    ("outofmemory", "out_of_memory", "The device ran out of memory."),
    ("insufficient memory", "out_of_memory", "The device ran out of memory."),
    (
        "could not find any implementation",
        "other",
        "TensorRT has no kernel for a part of this network: try another --precision.",
    ),
    ("driver version is insufficient", "other", "There is no usable NVIDIA driver."),
)
_FLAGS = {"fp32": (), "fp16": ("FP16",), "int8": ("INT8", "FP16")}


class BuildError(Exception):
    """The build failed; the message says why and what to do, ``kind`` is for decisions."""

    def __init__(self, kind: FailureKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def build_plan(
    network: Path, recipe: BuildRecipe, timing_cache: Path, on_progress: OnProgress
) -> tuple[bytes, tuple[str, ...]]:
    """Build ``network``. Takes minutes and gigabytes.

    Args:
        network: an ONNX file, as ``prepare_graph`` writes it for this recipe.
        recipe: what is wanted.
        timing_cache: file of measurements that make the next build faster; also kept when this
            one fails.
        on_progress: called often, from any thread.

    Returns:
        the plan, and the names of the outputs in the order of the ONNX file.

    Raises:
        BuildError: with the reason.
    """
    logger, signs = logging.getLogger("engines.trt"), _SignsOfLife(on_progress)
    logger.setLevel(logging.DEBUG)
    logger.addHandler(signs)
    try:
        with LOG.capture():
            return _build(network, recipe, timing_cache, on_progress)
    finally:
        logger.removeHandler(signs)


class Progress:
    """How much of a build is done, from phases that nest. Thread-safe."""

    def __init__(self) -> None:
        self._phases: dict[str, tuple[str | None, int, int]] = {}  # parent, steps, steps done
        self._most = 0.0
        self._lock = threading.Lock()

    def start(self, phase: str, parent: str | None, steps: int) -> None:
        """A phase begins, as a part of one step of ``parent``."""
        with self._lock:
            self._phases[phase] = (parent, max(1, steps), 0)

    def step(self, phase: str, step: int) -> float:
        """A step is done; the fraction of the whole, which never falls."""
        with self._lock:
            parent, steps, _ = self._phases.get(phase, (None, step + 1, 0))
            self._phases[phase] = (parent, steps, step + 1)
            self._most = max(self._most, self._part_of(None))
            return self._most

    def finish(self, phase: str) -> None:
        """A phase ends, done or not."""
        with self._lock:
            self._phases.pop(phase, None)

    def _part_of(self, phase: str | None) -> float:
        """How much of one step of ``phase`` its parts have done."""
        parts = [(n, steps, done) for n, (p, steps, done) in self._phases.items() if p == phase]
        return max(
            (min(1, (done + self._part_of(n)) / steps) for n, steps, done in parts), default=0
        )


class _SignsOfLife(logging.Handler):
    """Every line of TensorRT's log is one: the only ones that version 8 gives."""

    def __init__(self, on_progress: OnProgress) -> None:
        super().__init__()
        self._on_progress = on_progress

    def emit(self, record: logging.LogRecord) -> None:
        self._on_progress(None, "")


def _make_monitor(on_progress: OnProgress) -> Any:  # noqa: ANN401 - TensorRT 8 has no such class
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # the module has no types
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._progress = Progress()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._progress.start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return on_progress(self._progress.step(phase_name, step), phase_name)

        def phase_finish(self, phase_name: str) -> None:
            self._progress.finish(phase_name)

    return Monitor()


def _build(
    network: Path, recipe: BuildRecipe, timing_cache: Path, on_progress: OnProgress
) -> tuple[bytes, tuple[str, ...]]:
    trt.init_libnvinfer_plugins(LOG, "")
    try:
        builder = trt.Builder(LOG)
    except TypeError as error:  # the bindings' way to say that the library made none
        raise _failure("TensorRT makes no builder on this machine.") from error
    definition = builder.create_network(_creation_flags(recipe))
    if definition is None:
        raise _failure("TensorRT makes no network.")
    parser = trt.OnnxParser(definition, LOG)
    if not parser.parse_from_file(str(network)):
        raise _parser_failure(parser)
    if not definition.num_inputs or not definition.num_outputs:  # TensorRT parses garbage to this
        raise BuildError("parser", "The ONNX file holds no network; it is damaged.")
    config = builder.create_builder_config()
    _tell_precision(config, recipe)
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, recipe.workspace_mib << 20)
    config.builder_optimization_level = recipe.optimization_level
    _add_profile(builder, config, definition, recipe)
    known = timing_cache.read_bytes() if timing_cache.is_file() else b""
    config.set_timing_cache(config.create_timing_cache(known), False)
    if hasattr(config, "progress_monitor"):
        config.progress_monitor = _make_monitor(on_progress)
    plan = builder.build_serialized_network(definition, config)
    publish_file(timing_cache, bytes(config.get_timing_cache().serialize()))
    if plan is None:
        raise _failure("TensorRT built nothing.")
    names = tuple(definition.get_output(index).name for index in range(definition.num_outputs))
    return bytes(plan), names


def _creation_flags(recipe: BuildRecipe) -> int:
    """Bits that this version knows: an unknown one makes ``create_network`` answer None."""
    flags = trt.NetworkDefinitionCreationFlag
    wanted = ["EXPLICIT_BATCH", *(["STRONGLY_TYPED"] if recipe.strongly_typed else [])]
    return sum(1 << int(getattr(flags, name)) for name in wanted if hasattr(flags, name))


def _tell_precision(config: Any, recipe: BuildRecipe) -> None:  # noqa: ANN401 - untyped module
    if recipe.precision == "fp32":  # on by default: products of 10 bits, far from the weights
        config.clear_flag(trt.BuilderFlag.TF32)
    for name in () if recipe.strongly_typed else _FLAGS[recipe.precision]:
        if not hasattr(trt.BuilderFlag, name):
            raise BuildError(
                "unsupported",
                f"TensorRT {trt.__version__} takes {recipe.precision} from the graph alone: "
                "install the package onnx, with which the graph is changed.",
            )
        config.set_flag(getattr(trt.BuilderFlag, name))


def _add_profile(builder: Any, config: Any, definition: Any, recipe: BuildRecipe) -> None:  # noqa: ANN401 - as above
    """Say which shapes a dynamic input takes. TensorRT checks no names and little else."""
    entry = definition.get_input(0)
    shape, (width, height) = tuple(entry.shape), recipe.size_wh
    rest = (height, width, 3) if recipe.pixels is not None else (3, height, width)
    wanted = [(batch, *rest) for batch in recipe.batch]
    fits = definition.num_inputs == 1 and all(
        len(shape) == 4 and all(h in (-1, w) for h, w in zip(shape, dims, strict=True))
        for dims in wanted
    )
    if not fits or not 1 <= wanted[0][0] <= wanted[1][0] <= wanted[2][0]:
        raise BuildError(
            "other", f"The network takes {shape}, the recipe wants {wanted[0]} to {wanted[2]}."
        )
    if -1 in shape:
        profile = builder.create_optimization_profile()
        profile.set_shape(entry.name, *wanted)
        if config.add_optimization_profile(profile) < 0:
            raise _failure(f"TensorRT refuses the shapes {wanted}.")


def explain(said: str, fallback: str) -> BuildError:
    """The error for what TensorRT said; ``fallback`` when that is nothing we know."""
    for phrase, kind, message in _REASONS:
        if phrase in said.lower():
            return BuildError(kind, message)
    return BuildError("other", fallback)


def _failure(fallback: str) -> BuildError:
    return explain("\n".join(LOG.lines), f"{fallback} {LOG}")


def _parser_failure(parser: Any) -> BuildError:  # noqa: ANN401 - as above
    error = parser.get_error(0) if parser.num_errors else None
    if error is None or error.node() < 0:
        said = error.desc() if error else str(LOG)
        return BuildError("parser", f"TensorRT cannot read the ONNX file, it is damaged: {said}")
    if hasattr(error, "node_operator"):
        operator, name = error.node_operator(), f", {error.node_name()!r}"
    else:  # TensorRT 8 says it in its log alone
        named = re.search(r"(?:node number \d+ \[|operator: )(\w+)", "\n".join(LOG.lines))
        operator, name = named[1] if named else "?", ""
    where = f"operation {operator} (node {error.node()}{name})"
    if "plugin not found" in error.desc().lower() or error.code().name.startswith("UNSUPPORTED"):
        message = f"TensorRT {trt.__version__} has no {where}, or not as the network uses it."
        advice = "Export without it (other opset, no NMS inside), or keep to the CPU engine."
    else:
        message, advice = f"The network is malformed at {where}.", "Export it again."
    return BuildError("parser", f"{message} {advice} TensorRT says: {error.desc()}")
