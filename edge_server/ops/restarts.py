"""Whether to end this process so that its supervisor starts it again, and how often."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

EXIT_STATUS = 75  # EX_TEMPFAIL of sysexits.h: another try may succeed
_MOST = 3
_WITHIN_S = 3600.0
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def is_supervised() -> bool:
    """Whether somebody would start this process again: systemd, or what runs containers."""
    return "INVOCATION_ID" in os.environ or os.getppid() in (0, 1)


def may_restart(record: Path) -> bool:
    """Count one more restart, unless there were too many within the last hour of this boot.

    Args:
        record: a JSON file with the seconds since boot of those before.
    """
    now, boot = time.monotonic(), _BOOT_ID.read_text().strip() if _BOOT_ID.exists() else ""
    try:
        known = json.loads(record.read_bytes())
        recent = [at for at in known["at"] if known["boot"] == boot and now - at < _WITHIN_S]
    except (OSError, ValueError, TypeError, KeyError):
        recent = []
    if len(recent) >= _MOST:
        return False
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps({"boot": boot, "at": [*recent, now]}))
    return True
