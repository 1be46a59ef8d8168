"""What TensorRT can do for models on this device: which engines there are, and which may serve.

Everything about TensorRT is imported inside: a device without it serves on the CPU.
"""

from __future__ import annotations

import importlib.util
import logging
import threading
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

from build_engines.cache import EngineCache, Failure, now, wait_s
from build_engines.pictures import hash_pictures
from build_engines.recipe import (
    BuildRecipe,
    DeviceFacts,
    ModelFacts,
    PixelInput,
    Precision,
    choose_recipe,
)
from build_engines.run import BuildRequest
from edge_server.errors import EngineGoneError, ModelFailedError
from edge_server.models.package import ModelPackage
from edge_server.serving.golden import TOLERANCES, Agreement, compare, is_empty, wishes
from edge_server.serving.model import Model, make_model
from edge_server.vision.predictions import Image
from edge_server.vision.preprocess import scaling_of
from engines.artifact import EngineArtifact, EngineKey
from engines.base import EngineError, PlanMismatchError
from engines.device import read_device
from engines.files import content_hash

log = logging.getLogger(__name__)

Choice: TypeAlias = Literal["auto", "fp32", "fp16", "int8", "off"]
_FASTEST_FIRST: tuple[Precision, ...] = ("int8", "fp16", "fp32")
# The first at which anything is found: a comparison of nothing proves nothing.
_CONFIDENCES = (0.4, 0.1, 0.02)
# A build that is told to end gets this long: the end of the server must not wait for it.
_GRACE_S = 2.0


class RefusedError(Exception):
    """An engine does not answer like its weights; the message says where."""


@dataclass(frozen=True)
class Device:
    """A GPU with TensorRT, and its engines on disk.

    Attributes:
        facts: for decisions about builds.
        driver: version of what lies below TensorRT; engines are proved anew when it changed.
        cache: the engines.
    """

    facts: DeviceFacts
    driver: str
    cache: EngineCache


class Accelerator:
    """The TensorRT engines of this device. Thread-safe.

    Attributes:
        lost: why the GPU cannot be used by this process any more; empty while it can.
        missing: why there is no device.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        precision: Choice = "auto",
        cache_mib: int = 4096,
        on_lost: Callable[[], None] = lambda: None,
    ) -> None:
        """Touches nothing; the device is looked for when it is first asked about.

        Args:
            data_dir: of the appliance.
            precision: the only one to build and use; ``auto`` takes the fastest that proves right.
            cache_mib: for all plans together.
            on_lost: called once when the GPU is lost.
        """
        self.lost = ""
        self.missing = "TensorRT is switched off by the setting precision."
        self._choice = precision
        self._cache_bytes = cache_mib << 20
        self._on_lost = on_lost
        self._engines = data_dir / "engines"
        self._state = data_dir / "state"
        self._used: set[Path] = set()
        self._lock = threading.Lock()
        self._asked = False
        self._device: Device | None = None

    @property
    def device(self) -> Device | None:
        """The device, unless there is none, it is off, or it was lost."""
        with self._lock:
            if not self._asked:
                self._asked = True
                self._device = self._find_device() if self._choice != "off" else None
            return None if self.lost else self._device

    def lose(self, reason: str) -> None:
        """Use the GPU no more: after a sticky error CUDA refuses all work of this process."""
        with self._lock:
            news, self.lost = not self.lost, self.lost or reason
        if news:
            log.error("The GPU is lost; models run on the CPU until a restart. %s", reason)
            self._on_lost()

    def load(self, package: ModelPackage) -> Model | None:
        """The model on the fastest engine that was proved for it here, if one works.

        No build starts and no weights are opened: with a proved engine the next start is fast.
        """
        device = self.device
        if device is None or why_not(package):
            return None
        for artifact in self.artifacts(package):
            if self.is_proved(package, artifact):
                try:
                    return self._open(package, artifact)
                except (EngineError, ModelFailedError) as error:
                    log.warning("%s does not run on TensorRT: %s", package.model_id, error)
                    if isinstance(error, EngineGoneError):
                        self.lose(str(error))
                        break
        return None

    def artifacts(self, package: ModelPackage) -> list[EngineArtifact]:
        """Engines on disk that the settings allow for these very weights, the fastest first."""
        device = self.device
        if device is None:
            return []
        try:
            recipe = self._choose(package, (None, 1), "fp32")
            wanted = recipe and _likeness(self._key(package, recipe, None))
        except OSError as error:
            log.warning("Engines of %s are not looked for: %s", package.model_id, error)
            return []
        found = [
            artifact
            for artifact in device.cache.of_model(package.model_id, device.facts.host)
            if _likeness(artifact.key) == wanted
            and self._choice in ("auto", artifact.key.precision)
        ]
        return sorted(found, key=lambda artifact: _speed(artifact.key))

    def request(
        self,
        package: ModelPackage,
        batches: tuple[int | None, int],
        refused: Set[Precision],
        calibration: Path | None = None,
    ) -> BuildRequest | None:
        """What to build next for ``package``; None when nothing is left.

        Args:
            package: the model.
            batches: the batch that is fixed in its network, and the most pictures of a pass.
            refused: precisions that are of no use.
            calibration: a folder of pictures, for int8.

        Raises:
            OSError: the weights or the calibration pictures cannot be read.
            ValueError: there are no calibration pictures.
        """
        recipe = self._choose(package, batches, self._choice, frozenset(refused), calibration)
        if recipe is None:
            return None
        return BuildRequest(
            weights=package.weights,
            model=package.model_id,
            key=self._key(package, recipe, calibration),
            recipe=replace(recipe, kill_grace_s=_GRACE_S),
            cache=self._engines,
            secret=self._state / "device.key",
            calibration=calibration if recipe.precision == "int8" else None,
        )

    def wait_s(self, package: ModelPackage, key: EngineKey) -> float | None:
        """Seconds until a failed engine is due again, 0 when it did not fail, None for never."""
        failure = self.failure(package, key)
        return wait_s(failure, *now()) if failure else 0.0

    def failure(self, package: ModelPackage, key: EngineKey) -> Failure | None:
        """Why there is no engine for ``key``, if it was tried."""
        device = self.device
        return device.cache.failure(package.model_id, key) if device else None

    def is_proved(self, package: ModelPackage, artifact: EngineArtifact) -> bool:
        """Whether this very plan was proved under the driver of today."""
        device = self.device
        known = device.cache.approval(package.model_id, artifact.key) if device else {}
        told = (known.get("plan"), known.get("driver"))
        return device is not None and told == (artifact.sha256, device.driver)

    def prove(
        self,
        artifact: EngineArtifact,
        cpu: Model,
        pictures: Sequence[Image],
        *,
        again: bool = False,
    ) -> Model:
        """A model on this engine, after a comparison with ``cpu``, which is done but once.

        Args:
            artifact: the engine.
            cpu: the weights of the same package.
            pictures: to compare on.
            again: compare even an engine that was proved.

        Raises:
            RefusedError: it answers otherwise; it is out of use now.
            EngineError, ModelFailedError: it cannot run, perhaps only now.
        """
        device, package = self.device, cpu.package
        if device is None:
            raise ModelFailedError("There is no TensorRT here.")
        cache, key, new = device.cache, artifact.key, None
        try:
            new = self._open(package, artifact)
            if again or not self.is_proved(package, artifact):
                agreement = agree(cpu, new, pictures)
                if agreement.differences:
                    raise RefusedError(str(agreement))
                facts = {"pictures": len(pictures), **agreement.facts()}
                told = {"plan": artifact.sha256, "driver": device.driver, **facts}
                cache.approve(package.model_id, key, told)
        except (RefusedError, EngineGoneError, EngineError, ModelFailedError) as error:
            if new is not None:
                new.close()
            if isinstance(error, EngineGoneError):
                self.lose(str(error))
            if isinstance(error, (RefusedError, EngineGoneError)):
                # One that breaks the GPU would break it after every start.
                cache.quarantine(package.model_id, key, str(error))
            elif not isinstance(error, PlanMismatchError):
                cache.note_failure(package.model_id, key, "other", str(error))
            raise
        return new

    def prune(self) -> None:
        """Delete engines of long ago when all together take too much."""
        device = self.device
        for engine in device.cache.prune(self._cache_bytes, self._used) if device else ():
            log.info("deleted the engine %s: together they took too much", engine.plan)

    def _open(self, package: ModelPackage, artifact: EngineArtifact) -> Model:
        from engines.trt import open_tensorrt

        device = self.device
        assert device is not None  # noqa: S101 - artifacts come from it
        if device.cache.find(package.model_id, artifact.key) is None:
            raise PlanMismatchError(f"{artifact.plan.name} is gone.")
        self._used.add(artifact.plan)
        try:
            engine = open_tensorrt(artifact)
        except PlanMismatchError:
            device.cache.discard(package.model_id, artifact.key)  # to be built again
            raise
        # On a small board engines take fewer pictures at once than the package allows.
        return make_model(replace(package, max_batch_size=artifact.key.batch[-1]), engine)

    def _choose(
        self,
        package: ModelPackage,
        batches: tuple[int | None, int],
        choice: Choice,
        refused: frozenset[Precision] = frozenset(),
        calibration: Path | None = None,
    ) -> BuildRecipe | None:
        device, given = self.device, package.network_input
        if device is None or choice == "off":
            return None
        static_batch, max_batch = batches
        pixels = PixelInput(
            rgb=given.color_mode == "rgb",
            scaling=float(scaling_of(given)),
            normalization=given.normalization,
        )
        size_wh = (given.width, given.height)
        facts = ModelFacts(size_wh, static_batch, max_batch, pixels, calibration is not None)
        return choose_recipe(device.facts, facts, choice, refused)

    def _key(
        self, package: ModelPackage, recipe: BuildRecipe, calibration: Path | None
    ) -> EngineKey:
        device = self.device
        assert device is not None  # noqa: S101 - there is a recipe
        self._state.mkdir(parents=True, exist_ok=True)
        weights = content_hash(package.weights, self._state / "hashes.json")
        pictures = hash_pictures(calibration) if calibration else None
        return recipe.key(weights, device.facts.host, pictures)

    def _find_device(self) -> Device | None:
        try:
            from engines.cuda import find_gpu
            from engines.trt import this_host

            gpu, host = find_gpu(), this_host()
            cache = EngineCache(self._engines, self._state / "device.key")
            cache.sweep()
        except Exception as error:  # noqa: BLE001 - of a half-installed CUDA anything can come
            self.missing = f"TensorRT cannot be used: {error}"
            log.info("Models run on the CPU. %s", self.missing)
            return None
        info = read_device()
        has_onnx = importlib.util.find_spec("onnx") is not None
        facts = DeviceFacts(host, gpu.total_memory >> 20, has_onnx)
        driver = " ".join(filter(None, (f"CUDA {gpu.driver}", info.l4t or info.driver)))
        log.info("TensorRT %s on %s, driver %s", host.tensorrt, host.gpu, driver)
        return Device(facts, driver, cache)


def why_not(package: ModelPackage) -> str:
    """Why a model stays on the CPU whatever device there is; empty when it need not."""
    given = package.network_input
    if given.resize_mode == "fit-longer-edge" and not given.antialias:
        return "its pictures come in any size, and a TensorRT engine is built for one"
    return ""


def agree(cpu: Model, new: Model, pictures: Sequence[Image]) -> Agreement:
    """Whether two models of one package answer alike."""
    for confidence in _CONFIDENCES:
        expected, _ = cpu.predict(pictures, wishes(confidence))
        if not all(map(is_empty, expected)):
            break
    actual, _ = new.predict(pictures, wishes(confidence))
    return compare(expected, actual, TOLERANCES[new.precision], confidence)


def _likeness(key: EngineKey) -> tuple[object, ...]:
    """What engines have in common that may stand for each other."""
    return key.weights_sha256, key.graph, key.size_wh


def _speed(key: EngineKey) -> int:
    return [str(each) for each in _FASTEST_FIRST].index(key.precision)
