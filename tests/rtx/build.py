"""Build one network with TensorRT-RTX and print what came of it, as JSON.

    python build.py NETWORK.onnx RECIPE TIMING_CACHE STOP_AT

RECIPE is JSON; the build is cancelled when its fraction reaches STOP_AT.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import msgspec

from build_engines.builder import BuildError, build_plan
from build_engines.recipe import BuildRecipe

network, recipe, timing_cache, stop_at = sys.argv[1:]
fractions: list[float] = []


def progress(fraction: float | None, phase: str) -> bool:
    if fraction is not None:
        fractions.append(fraction)
    return fraction is None or fraction < float(stop_at)


try:
    plan, outputs = build_plan(
        Path(network),
        msgspec.json.decode(recipe, type=BuildRecipe),
        Path(timing_cache),
        progress,
    )
    told = {"bytes": len(plan), "head": plan[:4].hex(), "outputs": outputs}
except BuildError as error:
    told = {"kind": error.kind, "message": str(error)}
print(json.dumps({**told, "fractions": fractions}))
