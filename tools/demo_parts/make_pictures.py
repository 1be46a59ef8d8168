"""Render the pictures that ship: examples inside the package, and the fixtures of the tests.

python -m tools.demo_parts.make_pictures
"""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from tools.demo_parts.scenes import CLASSES, render_scene

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLES = ROOT / "edge_server" / "bundled" / "demo-parts" / "1" / "examples"
FIXTURES = ROOT / "tests" / "fixtures" / "demo-parts"
EXAMPLE_SEEDS = (7_000_028, 7_000_059, 7_000_039)  # chosen by eye: busy, different surfaces
FIXTURE_SEED = 6_000_000
FIXTURE_COUNT = 40


def main() -> None:
    """Write everything anew; the same seeds give the same pictures."""
    EXAMPLES.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(EXAMPLE_SEEDS, 1):
        scene = render_scene(np.random.default_rng(seed), 1280, 960)
        _save(EXAMPLES / f"inspection-{number}.jpg", scene.image, quality=78)
    FIXTURES.mkdir(parents=True, exist_ok=True)
    pictures = []
    for index in range(FIXTURE_COUNT):
        width, height = (640, 480) if index % 4 == 0 else (320, 320)
        scene = render_scene(np.random.default_rng(FIXTURE_SEED + index), width, height)
        name = f"{index:03}.jpg"
        _save(FIXTURES / name, scene.image, quality=88)
        pictures.append(
            {
                "file": name,
                "boxes": scene.boxes.round(1).tolist(),
                "class_ids": scene.class_ids.tolist(),
            }
        )
    labels = {"classes": CLASSES, "pictures": pictures}
    (FIXTURES / "labels.json").write_text(json.dumps(labels) + "\n", encoding="utf-8")


def _save(path: Path, image: np.ndarray, quality: int) -> None:
    cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, quality])


if __name__ == "__main__":
    main()
