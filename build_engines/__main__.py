"""``python -m build_engines``: build one engine for this device, without a server."""

from __future__ import annotations

import argparse
import importlib.util
import sys
import threading
from dataclasses import replace
from pathlib import Path

from build_engines.pictures import hash_pictures
from build_engines.recipe import DeviceFacts, ModelFacts, PixelInput, choose_recipe
from build_engines.run import BuildRequest, run_build
from engines.base import EngineError, TensorSpec
from engines.files import content_hash
from engines.onnx_cpu import open_onnx


def main() -> int:
    """Build what the command line asks for; 0 when the engine is there."""
    arguments = _parser().parse_args()
    try:
        request = _request(arguments)
        result = run_build(request, print, threading.Event())
    except (EngineError, ImportError, OSError, ValueError) as error:
        print(f"Nothing was built: {error}", file=sys.stderr)
        return 1
    if result.failure:
        print(f"Nothing was built ({result.failure}): {result.message}", file=sys.stderr)
        return 1
    print(f"{request.model}: engine {request.key.digest} is in {request.cache}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m build_engines", description=__doc__)
    parser.add_argument("weights", type=Path, metavar="MODEL.onnx")
    parser.add_argument("--out", type=Path, required=True, help="folder of engines")
    parser.add_argument("--model", help="name to file it under (default: that of the file)")
    parser.add_argument("--precision", choices=("auto", "fp32", "fp16", "int8"), default="auto")
    parser.add_argument("--calibration", type=Path, help="folder of pictures, for int8")
    parser.add_argument("--max-batch", type=int, default=1, help="most pictures per pass")
    parser.add_argument("--size", help="WIDTHxHEIGHT, for a network that leaves it open")
    parser.add_argument("--workspace-mib", type=int, help="what one layer may use")
    parser.add_argument("--bgr", action="store_true", help="the network wants blue first")
    parser.add_argument("--scaling", type=float, default=255.0, help="pixels are divided by it")
    for name in ("--means", "--stds"):
        parser.add_argument(name, type=float, nargs=3, help="by channel, after scaling")
    return parser


def _request(arguments: argparse.Namespace) -> BuildRequest:
    from engines.cuda import find_gpu
    from engines.trt import this_host

    host, folder = this_host(), arguments.out
    device = DeviceFacts(
        host, find_gpu().total_memory >> 20, importlib.util.find_spec("onnx") is not None
    )
    recipe = choose_recipe(device, _model(arguments), arguments.precision)
    if recipe is None:
        raise ValueError(f"This device cannot build {arguments.precision} from what was given.")
    if arguments.workspace_mib:
        recipe = replace(recipe, workspace_mib=arguments.workspace_mib)
    calibration = arguments.calibration
    return BuildRequest(
        weights=arguments.weights,
        model=arguments.model or arguments.weights.stem,
        key=recipe.key(
            content_hash(arguments.weights, folder / "hashes.json"),
            host,
            hash_pictures(calibration) if calibration else None,
        ),
        recipe=recipe,
        cache=folder,
        secret=folder / "device.key",
        calibration=calibration,
    )


def _model(arguments: argparse.Namespace) -> ModelFacts:
    engine = open_onnx(arguments.weights, threads=1)
    spec = engine.inputs[0]
    engine.close()
    if len(spec.shape) != 4:
        raise ValueError(f"The network takes {spec}; expected float (B, 3, H, W).")
    given = (arguments.means, arguments.stds)
    return ModelFacts(
        size_wh=_size_wh(arguments.size, spec),
        static_batch=spec.shape[0],
        max_batch=arguments.max_batch,
        pixels=PixelInput(
            rgb=not arguments.bgr,
            scaling=arguments.scaling,
            normalization=(tuple(given[0]), tuple(given[1])) if all(given) else None,
        ),
        calibrated=arguments.calibration is not None,
    )


def _size_wh(told: str | None, spec: TensorSpec) -> tuple[int, int]:
    height, width = spec.shape[2:]
    if told is not None:
        width, height = (int(number) for number in told.lower().split("x"))
    if width is None or height is None:
        raise ValueError(f"The network takes {spec}: give --size.")
    return width, height


if __name__ == "__main__":
    sys.exit(main())
