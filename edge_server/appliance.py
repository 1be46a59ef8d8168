"""Everything the settings describe, put together, without HTTP."""

from __future__ import annotations

import logging
from collections.abc import Callable

from edge_server.errors import EdgeServerError
from edge_server.images.fetch import UrlFetcher
from edge_server.images.sources import ImageReader
from edge_server.images.url_policy import UrlPolicy
from edge_server.models.store import ModelStore
from edge_server.serving.accelerator import Accelerator
from edge_server.serving.model import Model, load_model
from edge_server.serving.pool import ModelPool
from edge_server.serving.upgrade import Upgrader
from edge_server.settings import Settings
from engines.device import usable_cpus
from engines.onnx_cpu import OnnxCpuEngine

log = logging.getLogger(__name__)

MEBI = 2**20


class Appliance:
    """The models on disk, the models in memory, and what turns anything sent into a picture.

    Attributes:
        upgrader: to be started by a server; without it models stay on the engine there is.
    """

    def __init__(self, settings: Settings, lost: Callable[[], None] = lambda: None) -> None:
        """Touches no disk and loads nothing.

        Args:
            settings: the whole configuration.
            lost: called once when this process loses the GPU, before the CPU takes over.
        """
        policy = UrlPolicy(
            url_input=settings.url_input,
            allow=settings.url_allow,
            only=settings.url_only,
            deny=settings.url_deny,
            https_only=settings.url_https_only,
            fqdn_only=settings.url_fqdn_only,
        )
        fetcher = UrlFetcher(
            policy,
            max_bytes=settings.max_body_mib * MEBI,
            timeout_s=settings.url_timeout_s,
            max_redirects=settings.url_max_redirects,
            max_at_once=max(1, settings.server_threads // 2),
        )
        self.store = ModelStore(settings.data_dir / "models")
        self.accelerator = Accelerator(
            settings.data_dir,
            precision=settings.precision,
            cache_mib=settings.engine_cache_mib,
            on_lost=lost,
        )
        self.pool = ModelPool(self._load, resolve=self.store.resolve, gone=self.accelerator.lose)
        self.upgrader = Upgrader(self.accelerator, self.pool)
        self.reader = ImageReader(
            max_pixels=settings.max_image_megapixels * 10**6,
            fetcher=fetcher,
            formats=frozenset(settings.image_formats),
        )
        self._engine_threads = settings.engine_threads or usable_cpus()
        self._preload = settings.preload

    def preload(self) -> None:
        """Load the models that the settings name; one that is broken does not stop the rest."""
        for model_id in self._preload:
            try:
                self.pool.add(model_id)
            except EdgeServerError as error:
                log.error("cannot preload %s: %s", model_id, error)

    def _load(self, model_id: str) -> Model:
        package = self.store.find(model_id)
        model = load_model(package, threads=self._engine_threads, fast=self.accelerator.load)
        if model.engine_name == OnnxCpuEngine.name:
            self.upgrader.offer(package)
        return model
