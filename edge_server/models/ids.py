"""Model ids: ``project/version``, ``workspace/slug`` or one word. They become paths, so: strict."""

from __future__ import annotations

import re
from pathlib import Path

from edge_server.errors import ModelIdError

_PART = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
# Stands for the missing second part on disk; no id part may contain it.
_NO_VERSION = "@"


def check_model_id(model_id: str) -> str:
    """Return ``model_id`` when it is well formed.

    Raises:
        ModelIdError: it has no part or more than two, or a part that could leave the folder
            of models or hide in it.
    """
    parts = model_id.split("/")
    if len(parts) > 2 or not all(_PART.fullmatch(part) for part in parts):
        raise ModelIdError(
            f"Model id {model_id[:200]!r} is not valid: expected PROJECT/VERSION or one word, "
            "made of letters, digits, '-', '_' and '.', not starting with '.'."
        )
    return model_id


def model_folder(root: Path, model_id: str) -> Path:
    """Where the model ``model_id`` lives below ``root``. Raises as ``check_model_id`` does."""
    project, _, version = check_model_id(model_id).partition("/")
    return root / project / (version or _NO_VERSION)


def model_id_of(root: Path, folder: Path) -> str:
    """The inverse of ``model_folder``."""
    project, version = folder.relative_to(root).parts
    return project if version == _NO_VERSION else f"{project}/{version}"
