"""Ask two servers the same questions and compare what they answer, field by field, box by box.

For those who move from another server that speaks this API. With both running:

    python -m tools.compare_servers http://old:9001 http://new:9001 --model coco/3 pictures/*.jpg

A model that has another name on server B is written A:B, such as --model coco/3:cars/1. Keys are
read from the variables API_KEY_A and API_KEY_B. Exit status: 0 when all answers agree within the
limits, 1 when some do not or are missing.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tools.compare_answers import Answer, Comparison, Limits, compare

TASK_ROUTES = {
    "object-detection": "object_detection",
    "instance-segmentation": "instance_segmentation",
    "keypoint-detection": "keypoints_detection",
    "classification": "classification",
    "semantic-segmentation": "semantic_segmentation",
}
LIMITS = asdict(Limits())


class AskError(Exception):
    """A server cannot be asked; the message says which and why."""


@dataclass(frozen=True)
class Server:
    """One of the two servers."""

    url: str
    api_key: str | None = None

    def route(self, model_id: str) -> str:
        """Load a model and name the route of its task."""
        loaded = self.post("/model/add", {"model_id": model_id})
        tasks = {model["model_id"]: model["task_type"] for model in loaded["models"]}
        if (route := TASK_ROUTES.get(tasks.get(model_id, ""))) is None:
            raise AskError(f"{self.url} gives {model_id} the task {tasks.get(model_id)!r}")
        return f"/infer/{route}"

    def post(self, path: str, body: Answer) -> Answer:
        """Send JSON and return JSON.

        Raises:
            AskError: no server answers there, or it refuses.
        """
        key = {} if self.api_key is None else {"api_key": self.api_key}
        request = urllib.request.Request(  # noqa: S310 - the address is the user's own
            self.url.rstrip("/") + path,
            data=json.dumps({**body, **key}).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=300) as response:  # noqa: S310
                answer: Answer = json.load(response)
                return answer
        except urllib.error.HTTPError as error:
            with error:
                raise AskError(f"{self.url}{path}: {error.code} {error.read()[:300]!r}") from error
        except (OSError, ValueError) as error:
            raise AskError(f"{self.url}{path}: {error}") from error


def picture_object(path: Path) -> dict[str, str]:
    """The picture as the JSON routes take it."""
    return {"type": "base64", "value": base64.b64encode(path.read_bytes()).decode("ascii")}


def results(servers: tuple[Server, Server], options: argparse.Namespace) -> Iterator[Answer]:
    """Ask every question of both servers; one row per model, mask format and picture."""
    limits = Limits(**{name: getattr(options, f"limit_{name}") for name in LIMITS})
    fields = {"confidence": options.confidence, "iou_threshold": options.iou}
    for ids in options.model:
        models = ids.split(":") if ":" in ids else [ids, ids]
        try:
            routes = [server.route(model) for server, model in zip(servers, models, strict=True)]
        except AskError as error:
            yield _row(ids, "-", None, Comparison(limits, differences=[str(error)]))
            continue
        masks = options.mask_format if "instance_segmentation" in routes[0] else [None]
        for mask_format in masks:
            extra = {} if mask_format is None else {"response_mask_format": mask_format}
            for path in options.pictures:
                body = {**fields, **extra, "image": picture_object(path)}
                answers, refusals = [], []
                for server, route, model in zip(servers, routes, models, strict=True):
                    try:
                        answers.append(server.post(route, {**body, "model_id": model}))
                    except AskError as error:
                        refusals.append(str(error))
                found = Comparison(limits, differences=refusals)
                if not refusals:
                    found = compare(answers[0], answers[1], limits)
                yield _row(ids, path.name, mask_format, found)


def _row(ids: str, picture: str, mask_format: str | None, found: Comparison) -> Answer:
    return {
        "model": ids,
        "picture": picture,
        "mask_format": mask_format,
        "agree": not found.differences,
        "counts": found.counts,
        "measures": found.measures,
        "differences": found.differences,
    }


def lines(row: Answer, widths: Sequence[int]) -> Iterator[str]:
    """A row for a reader: one line, and below it what differs."""
    measures = [_number(row["measures"].get(name)) for name in LIMITS]
    start = row["model"], row["picture"], row["mask_format"] or "-", *row["counts"]
    yield _line((*start, *measures, "agree" if row["agree"] else "DIFFER"), widths)
    yield from (f"    {difference}" for difference in row["differences"])


def _line(cells: Sequence[object], widths: Sequence[int]) -> str:
    return "  ".join(
        f"{cell!s:<{width}}" for cell, width in zip(cells, widths, strict=True)
    ).rstrip()


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def parse(arguments: list[str] | None) -> argparse.Namespace:
    text, _, details = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=text, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("server_a", help="address of server A, such as http://127.0.0.1:9001")
    parser.add_argument("server_b", help="address of server B")
    parser.add_argument("pictures", nargs="+", type=Path, help="picture files")
    parser.add_argument("--model", action="append", required=True, help="model id, or A:B")
    parser.add_argument("--confidence", type=float, default=0.4)
    parser.add_argument("--iou", type=float, default=0.3)
    parser.add_argument(
        "--mask-format",
        action="append",
        choices=("polygon", "rle"),
        help="of segmentation models; may be given twice (default: both)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table")
    for name, value in LIMITS.items():
        option = f"--limit-{name.replace('_', '-')}"
        parser.add_argument(option, type=float, default=value, help=f"default {value}")
    options = parser.parse_args(arguments)
    for path in options.pictures:
        if not path.is_file():
            parser.error(f"there is no picture {path}")
    options.mask_format = options.mask_format or ["polygon", "rle"]
    return options


def main(arguments: list[str] | None = None) -> int:
    """Compare and print; the exit status."""
    options = parse(arguments)
    servers = (
        Server(options.server_a, os.environ.get("API_KEY_A")),
        Server(options.server_b, os.environ.get("API_KEY_B")),
    )
    rows = []
    longest = max(map(len, options.model)), max(len(path.name) for path in options.pictures)
    widths = (*longest, 7, 5, 5, *(max(10, len(name)) for name in LIMITS), 0)
    if not options.json:
        print(_line(("model", "picture", "masks", "A", "B", *LIMITS, ""), widths))
    for row in results(servers, options):
        rows.append(row)
        if not options.json:
            print(*lines(row, widths), sep="\n", flush=True)
    agree = sum(row["agree"] for row in rows)
    print(json.dumps(rows, indent=2) if options.json else f"{agree} of {len(rows)} answers agree")
    return 0 if agree == len(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
