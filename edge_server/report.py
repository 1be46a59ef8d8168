"""Answers of the API for people: a short table, and the annotated picture as a file."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def prediction_table(answer: Mapping[str, Any]) -> str:
    """One line per prediction: class, confidence in percent, box in pixels."""
    predictions = answer["predictions"]
    if not predictions:
        return "Nothing found."
    names = max(len("class"), *(len(prediction["class"]) for prediction in predictions))
    lines = [f"{'class':<{names}}  confidence  left   top  width  height"]
    for prediction in predictions:
        left = prediction["x"] - prediction["width"] / 2
        top = prediction["y"] - prediction["height"] / 2
        lines.append(
            f"{prediction['class']:<{names}}  {prediction['confidence']:>9.0%}  "
            f"{left:>5.0f} {top:>5.0f}  {prediction['width']:>5.0f}  {prediction['height']:>6.0f}"
        )
    return "\n".join(lines)


def write_visualization(answer: Mapping[str, Any], path: Path) -> None:
    """Write the annotated picture that the answer holds.

    Raises:
        OSError: ``path`` cannot be written.
    """
    path.write_bytes(base64.b64decode(answer["visualization"]))
