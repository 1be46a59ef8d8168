"""Send a server of its own mutated pictures and mutated JSON, and say how it took them.

    python tools/fuzz/run.py --images 1000000 --json 200000

A finding is a request that got no answer, an undocumented 5xx, no JSON, or an answer too late.
Each is written to a file that repeats it: ``nc HOST PORT < FILE``. The same seed sends the same
requests.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tools.fuzz.campaign import Plan, Report, Tally, run_campaign  # noqa: E402


def main(arguments: list[str] | None = None) -> int:
    """Run a campaign; the exit status says whether anything was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=10_000, metavar="N")
    parser.add_argument("--json", type=int, default=2_000, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--upload", choices=("raw", "multipart"), default="raw")
    parser.add_argument("--slow", type=float, default=1.0, metavar="SECONDS")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--settle", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings"), metavar="FOLDER")
    options = parser.parse_args(arguments)
    options.findings.mkdir(parents=True, exist_ok=True)
    plan = Plan(
        pictures=options.images,
        texts=options.json,
        seed=options.seed,
        upload=options.upload,
        slow_s=options.slow,
        processes=options.processes,
        settle_s=options.settle,
    )
    report = run_campaign(plan, options.findings / "server.log")
    _print(report)
    for reason, case in report.findings:
        (options.findings / f"{case.name}-{reason}.http").write_bytes(case.request)
    return 1 if report.findings else 0


def _print(report: Report) -> None:
    print(f"{'':<10}{'sent':>10}{'no answer':>11}{'findings':>10}{'slowest':>10}  statuses")
    for name, tally in (("pictures", report.pictures), ("JSON", report.texts)):
        print(_row(name, tally))
    sent = sum(tally.statuses.total() for tally in (report.pictures, report.texts))
    print(f"{sent / report.seconds:,.0f} requests/s over {report.seconds:,.0f} s")
    before, after = report.memory_before / 2**20, report.memory_after / 2**20
    print(f"memory of the server: {before:.0f} MiB before, {after:.0f} MiB after")


def _row(name: str, tally: Tally) -> str:
    statuses = ", ".join(
        f"{status}: {count:,}" for status, count in sorted(tally.statuses.items()) if status
    )
    counts = f"{tally.statuses.total():>10,}{tally.statuses[0]:>11,}{len(tally.findings):>10,}"
    return f"{name:<10}{counts}{tally.slowest_s:>8.2f} s  {statuses}"


if __name__ == "__main__":
    sys.exit(main())
