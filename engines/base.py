"""The contract between the appliance and whatever executes a network.

Read this first: everything else in the product either makes an ``Engine``, feeds one,
or turns its outputs into answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]


class EngineError(Exception):
    """An engine could not be opened, or could not run what it was given."""


class EngineOpenError(EngineError):
    """The weights cannot be executed on this device, or not now; the message says why."""


class PlanMismatchError(EngineOpenError):
    """An engine on disk is damaged, forged, or made for another device or TensorRT: build anew."""


class EngineLostError(EngineError):
    """The GPU refuses all further work of this process, which must be started again."""


class FeedError(EngineError):
    """A tensor does not fit the engine's declared input."""


@dataclass(frozen=True)
class TensorSpec:
    """Name, dtype and shape of one engine input or output; None marks a dynamic dimension."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        dims = ", ".join("?" if dim is None else str(dim) for dim in self.shape)
        return f"{self.name}: {self.dtype} ({dims})"


class Engine(Protocol):
    """Executes one network. Thread-safe; the arrays it returns belong to the caller."""

    @property
    def name(self) -> str:
        """What ran, as shown to users: ``onnxruntime-cpu``, ``tensorrt-fp16``."""

    @property
    def precision(self) -> str:
        """Of the weights that were opened: ``fp32``, ``fp16`` or ``int8``.

        An engine may compute in a wider one where the device has no arithmetic for it.
        """

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The inputs in the order of the network."""

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The outputs in the order of the network; decoders read them by position."""

    @property
    def nbytes(self) -> int:
        """Bytes that are surely held while the engine is open: its weights at the least."""

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run the network once.

        Args:
            feeds: one C-contiguous array per input, by input name.

        Returns:
            one array per output, by output name, in the order of ``outputs``.

        Raises:
            FeedError: a feed is missing, unknown, or has another dtype or shape.
            EngineError: the run itself failed, or the engine is closed.
        """

    def close(self) -> None:
        """Free everything the engine holds. Closing twice is allowed."""


def check_feeds(inputs: tuple[TensorSpec, ...], feeds: Mapping[str, Array]) -> None:
    """Refuse feeds that do not fit ``inputs``, before native code sees them.

    Raises:
        FeedError: naming the tensor, what it is and what the engine accepts.
    """
    expected = {spec.name for spec in inputs}
    if feeds.keys() != expected:
        raise FeedError(f"Feeds are {sorted(feeds)}; the engine has the inputs {sorted(expected)}.")
    for spec in inputs:
        array = feeds[spec.name]
        fits = len(array.shape) == len(spec.shape) and all(
            want is None or want == have for want, have in zip(spec.shape, array.shape, strict=True)
        )
        if not fits or array.dtype != spec.dtype:
            raise FeedError(
                f"Input {spec.name} is {array.dtype} {array.shape}; the engine accepts {spec}."
            )
