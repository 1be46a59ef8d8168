"""Render the pictures that ship: examples inside the packages, and the fixtures of the tests.

python -m tools.demo_models.make_pictures
"""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from tools.demo_models import corrosion, surfaces, trays, wrenches
from tools.demo_models.parts import CLASSES, render_scene

ROOT = Path(__file__).resolve().parent.parent.parent
BUNDLED = ROOT / "edge_server" / "bundled"
FIXTURES = ROOT / "tests" / "fixtures" / "demo-parts"
EXAMPLE_SEEDS = (7_000_028, 7_000_059, 7_000_039)  # chosen by eye: busy, different surfaces
# One example of each other model: file, renderer and seed, chosen by eye too.
EXAMPLES = {
    "demo-parts-seg": ("parts.jpg", render_scene, 7_000_004),
    "demo-wrenches": ("wrenches.jpg", wrenches.render_wrenches, 7_000_043),
    "demo-surfaces": ("surface.jpg", surfaces.render_surface, 7_000_010),
    "demo-trays": ("tray.jpg", trays.render_tray, 7_000_011),
    "demo-corrosion": ("panel.jpg", corrosion.render_panel, 7_000_007),
}
FIXTURE_SEED = 6_000_000
FIXTURE_COUNT = 40


def main() -> None:
    """Write everything anew; the same seeds give the same pictures."""
    for number, seed in enumerate(EXAMPLE_SEEDS, 1):
        scene = render_scene(np.random.default_rng(seed), 1280, 960)
        _save(_example("demo-parts", f"inspection-{number}.jpg"), scene.image, quality=78)
    for name, (file, render, seed) in EXAMPLES.items():
        scene = render(np.random.default_rng(seed), 640, 480)
        _save(_example(name, file), scene.image, quality=85)
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


def _example(name: str, file: str) -> Path:
    return BUNDLED / name / "1" / "examples" / file


def _save(path: Path, image: np.ndarray, quality: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, quality])


if __name__ == "__main__":
    main()
