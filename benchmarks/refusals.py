"""What it costs to refuse a picture that would bring a decoder down, or to decode it safely.

    python benchmarks/refusals.py

Every file of ``pictures.BOMBS`` goes to the server's own decoder. Memory is the growth of the
peak resident size as the kernel counts it, because Python does not see what decoders take.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.pictures import BOMBS, FLAT_WEBP, small_png, webp  # noqa: E402
from edge_server.errors import ImageError, ImageFormatError, ImageTooLargeError  # noqa: E402
from edge_server.images.decode import decode_image  # noqa: E402

MAX_PIXELS = 64 * 10**6
STATUSES = {ImageError: 400, ImageTooLargeError: 413, ImageFormatError: 415}


class Cost(NamedTuple):
    """What one file took: its HTTP status, seconds, and bytes of memory beside its own."""

    status: int
    seconds: float
    peak_bytes: int


def main() -> None:
    """Measure and print."""
    print(f"{'':<46}{'file':>12}{'status':>8}{'time':>11}{'memory':>9}")
    for bomb in BOMBS:
        file = bomb.make()
        status, seconds, peak_bytes = measure(file)
        spent, size = f"{seconds * 1e3:.2f} ms", f"{len(file) / 1e3:,.1f} kB"
        print(f"{bomb.name:<46}{size:>12}{status:>8}{spent:>11}{peak_bytes / 1e6:>6.1f} MB")
    print(f"{'target':<66}{'10 ms':>11}{8:>6} MB")


def measure(file: bytes) -> Cost:
    """Decode, after small pictures have loaded all that is loaded once."""
    for small in (small_png(), webp(FLAT_WEBP)):
        decode_image(small, max_pixels=MAX_PIXELS)
    before = _memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak starts anew
    began = time.perf_counter()
    try:
        decode_image(file, max_pixels=MAX_PIXELS)
        status = 200
    except ImageError as error:
        status = STATUSES[type(error)]
    seconds = time.perf_counter() - began
    return Cost(status, seconds, _memory("VmHWM") - before)


def _memory(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


if __name__ == "__main__":
    main()
