"""Where models live: the data directory's ``models`` folder, and those that ship inside."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from edge_server.errors import BusyError, ModelExistsError, ModelNotFoundError
from edge_server.models.aliases import resolve_alias
from edge_server.models.identify import Hints
from edge_server.models.ids import model_folder, model_id_of
from edge_server.models.importing import import_model
from edge_server.models.package import MODEL_CONFIG, ModelPackage, read_class_names, read_package
from engines.files import folder_lock, publish_folder, remove_folder, sweep_staging

BUNDLED_MODELS = Path(__file__).parent.parent / "bundled"


class ModelStore:
    """Installed models by id. A model is there completely or not at all, whenever power fails."""

    def __init__(self, root: Path, bundled: Path = BUNDLED_MODELS) -> None:
        """``root`` is made when the first model is added; ``bundled`` is only read."""
        self._root = root
        self._bundled = bundled

    def resolve(self, model_id: str) -> str:
        """The id of the model that ``model_id`` means.

        An alias stands for its target, unless a model is installed under the alias itself.
        """
        target = resolve_alias(model_id)
        roots = (self._root, self._bundled)
        if target != model_id and any(model_folder(root, model_id).is_dir() for root in roots):
            return model_id
        return target

    def find(self, model_id: str) -> ModelPackage:
        """The package installed under ``model_id``.

        Raises:
            ModelIdError: the id is malformed.
            ModelNotFoundError: no such model; names those that are there.
            PackageError: its files are damaged.
        """
        for root in (self._root, self._bundled):
            folder = model_folder(root, model_id)
            if folder.is_dir():
                return read_package(folder, model_id)
        raise ModelNotFoundError(
            f"Model {model_id} is not installed; available: {', '.join(self.ids())}. "
            f"Install it with: edge-server models add {model_id} SOURCE"
        )

    def ids(self) -> list[str]:
        """The ids of all models, sorted."""
        return sorted(
            {
                model_id_of(root, path.parent)
                for root in (self._root, self._bundled)
                for path in root.glob(f"[!.]*/[!.]*/{MODEL_CONFIG}")
            }
        )

    def is_bundled(self, model_id: str) -> bool:
        """Whether the model ships inside the package, and so cannot be deleted."""
        return not model_folder(self._root, model_id).is_dir()

    def install(
        self,
        model_id: str,
        source: Path,
        *,
        task: str | None = None,
        family: str | None = None,
        classes: Path | None = None,
        prove: Callable[[ModelPackage], None],
    ) -> ModelPackage:
        """Install the model in ``source`` under ``model_id``.

        Args:
            model_id: must be free.
            source: see ``importing.import_model``.
            task: what the user says the model does, or None.
            family: the family that the user says it is of, or None.
            classes: a file with the names of its classes, one a line, or None.
            prove: called with the package before it is published; what it raises stops the
                installation.

        Raises:
            ModelIdError: the id is malformed.
            ModelExistsError: the id is taken.
            PackageError: the source is not understood.
            OSError: the data directory cannot be written.
        """
        target = model_folder(self._root, model_id)
        names = read_class_names(classes) if classes is not None else None

        def fill(staging: Path) -> None:
            import_model(source, staging, Hints(task, family, names))
            prove(read_package(staging, model_id))

        self._root.mkdir(parents=True, exist_ok=True)
        with folder_lock(self._root):
            if target.exists() or model_folder(self._bundled, model_id).exists():
                raise ModelExistsError(
                    f"Model {model_id} exists already; choose another id, or delete it with: "
                    f"edge-server models delete {model_id}"
                )
            publish_folder(target, fill)
        return read_package(target, model_id)

    def delete(self, model_id: str) -> None:
        """Delete an installed model from disk.

        Raises:
            ModelNotFoundError: it is not installed, or ships inside the package.
            BusyError: a model is being added or deleted.
        """
        target = model_folder(self._root, model_id)
        if not target.is_dir():
            self._refuse_delete(model_id)
        try:
            with folder_lock(self._root, wait=False):
                if not target.is_dir():  # somebody else was quicker
                    self._refuse_delete(model_id)
                remove_folder(target)
        except BlockingIOError:
            raise BusyError("Another model is being added or deleted; try again shortly.") from None

    def _refuse_delete(self, model_id: str) -> None:
        if model_folder(self._bundled, model_id).is_dir():
            raise ModelNotFoundError(f"Model {model_id} is part of Edge Server and stays.")
        self.find(model_id)

    def sweep(self) -> None:
        """Delete what an installation that power ended left behind; one in progress is left."""
        if not self._root.is_dir():
            return
        with suppress(BlockingIOError), folder_lock(self._root, wait=False):
            sweep_staging(self._root)
