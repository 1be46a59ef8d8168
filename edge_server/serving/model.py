"""A loaded model: pictures in, predictions out. All choices are made here, at load."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edge_server.errors import EngineGoneError, ModelFailedError
from edge_server.models.package import ModelPackage
from edge_server.vision.decoders import DECODERS
from edge_server.vision.head import HeadSpec
from edge_server.vision.params import InferParams
from edge_server.vision.predictions import Image, Prediction
from edge_server.vision.preprocess import make_feed, make_preprocess
from engines.base import Array, Engine, EngineError, EngineLostError
from engines.device import private_bytes
from engines.onnx_cpu import open_onnx


@dataclass(frozen=True)
class Timings:
    """Seconds spent in each step of ``Model.predict``."""

    preprocess: float = 0.0
    engine: float = 0.0
    decode: float = 0.0

    def __add__(self, other: Timings) -> Timings:
        return Timings(
            self.preprocess + other.preprocess,
            self.engine + other.engine,
            self.decode + other.decode,
        )


class Model:
    """A model ready to answer. Thread-safe.

    Attributes:
        package: what it was loaded from.
        max_pass: most pictures that the network takes at once.
        nbytes: memory that it holds; see ``load_model``.
        inferences: pictures answered so far.
        watch: shown the pictures of every pass, while somebody wants to see some; must not wait.
    """

    def __init__(self, package: ModelPackage, engine: Engine) -> None:
        """Sends a black picture through every step.

        So a model that cannot work fails here, the shapes of the outputs say how they are to be
        read, and the first caller does not pay for lazy initialisation.

        Raises:
            EngineError: the engine cannot run.
            ValueError: the network is not what its package says.
        """
        self.package = package
        self.nbytes = engine.nbytes
        self.inferences = 0
        self.watch: Callable[[Sequence[Image]], None] | None = None
        self._lock = threading.Lock()
        self._engine = engine
        spec = engine.inputs[0]
        self._static_batch = spec.shape[0]
        self.max_pass = self._static_batch or package.max_batch_size
        size = package.network_input
        self._preprocess = make_preprocess(size)
        self._feed: Callable[[Array], Array] = make_feed(size, spec)
        black = np.zeros((size.height, size.width, 3), np.uint8)
        pixels, placements = self._preprocess([black], InferParams())
        outputs = engine.run({spec.name: self._feed(_padded(pixels, self._static_batch))})
        self._decode = DECODERS[package.task, package.family](
            HeadSpec(
                class_names=package.class_names,
                output_shapes=tuple(output.shape for output in outputs.values()),
                thresholds=package.thresholds,
                fused=package.fused,
                removed_columns=package.removed_columns,
                keypoint_counts=tuple(len(names) for names in package.keypoints),
            )
        )
        self._decode(outputs, placements, InferParams())

    @property
    def static_batch(self) -> int | None:
        """The batch size fixed in the network; None when any size runs."""
        return self._static_batch

    @property
    def engine_name(self) -> str:
        """What runs it: ``onnxruntime-cpu``."""
        return self._engine.name

    @property
    def precision(self) -> str:
        """``fp32``, ``fp16`` or ``int8``; see ``Engine.precision``."""
        return self._engine.precision

    def predict(
        self, images: Sequence[Image], params: InferParams
    ) -> tuple[list[Prediction], Timings]:
        """One prediction per picture, in pixels of that picture, and the time it took.

        Args:
            images: (H, W, 3) uint8 BGR, of any sizes; more than the network's batch are run
                in several passes.
            params: the caller's thresholds and switches.

        Raises:
            EngineGoneError: the GPU is lost; the same request may succeed on another engine.
            ModelFailedError: the engine failed, or what it gave is damaged.
        """
        predictions: list[Prediction] = []
        timings = Timings()
        for start in range(0, len(images), self.max_pass):
            part, spent = self._predict_pass(images[start : start + self.max_pass], params)
            predictions += part
            timings += spent
        with self._lock:
            self.inferences += len(images)
        return predictions, timings

    def close(self) -> None:
        """Free the engine."""
        self._engine.close()

    def _predict_pass(
        self, images: Sequence[Image], params: InferParams
    ) -> tuple[list[Prediction], Timings]:
        if (watch := self.watch) is not None:
            watch(images)
        began = time.perf_counter()
        pixels, placements = self._preprocess(images, params)
        tensor = self._feed(_padded(pixels, self._static_batch))
        prepared = time.perf_counter()
        try:
            outputs = self._engine.run({self._engine.inputs[0].name: tensor})
        except EngineError as error:
            kind = EngineGoneError if isinstance(error, EngineLostError) else ModelFailedError
            raise kind(f"Model {self.package.model_id} failed: {error}") from error
        ran = time.perf_counter()
        try:
            predictions = list(self._decode(outputs, placements, params))
        except ValueError as error:
            raise ModelFailedError(f"Model {self.package.model_id} failed: {error}") from error
        decoded = time.perf_counter()
        return predictions, Timings(prepared - began, ran - prepared, decoded - ran)


def load_model(
    package: ModelPackage,
    *,
    threads: int,
    fast: Callable[[ModelPackage], Model | None] = lambda package: None,
) -> Model:
    """Open the weights on the best engine of this device and prove that they answer.

    Its ``nbytes`` are what this process grew by while it was opened and ran once, because an
    engine repacks weights and keeps the arena of a run: several times the size of the file. What
    other threads allocate or free meanwhile counts too, so the engine's own figure is the least.

    Args:
        package: what to load.
        threads: of one run on the CPU.
        fast: the model on an engine that was built and proved for it, if there is one that works;
            else the weights are opened on the CPU.

    Raises:
        ModelFailedError: the weights cannot be opened, run or decoded; the message says why.
    """
    before = private_bytes()
    model = fast(package)
    if model is None:
        try:
            engine = open_onnx(package.weights, threads=threads)
        except EngineError as error:
            raise ModelFailedError(f"Model {package.model_id} cannot be loaded: {error}") from error
        model = make_model(package, engine)
    model.nbytes = max(model.nbytes, private_bytes() - before)
    return model


def make_model(package: ModelPackage, engine: Engine) -> Model:
    """A model on ``engine``, which is closed when that fails.

    Raises:
        ModelFailedError: it cannot run or does not fit the package; the message says why.
        EngineGoneError: the GPU is lost.
    """
    try:
        return Model(package, engine)
    except (EngineError, ValueError) as error:
        engine.close()
        kind = EngineGoneError if isinstance(error, EngineLostError) else ModelFailedError
        raise kind(f"Model {package.model_id} cannot be loaded: {error}") from error


def _padded(pixels: Array, batch: int | None) -> Array:
    """Fill up with black pictures to the network's fixed batch; decoders see only real ones."""
    if batch is None or len(pixels) == batch:
        return pixels
    padding = np.zeros((batch - len(pixels), *pixels.shape[1:]), pixels.dtype)
    return np.concatenate([pixels, padding])
