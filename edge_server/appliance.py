"""Everything the settings describe, put together, without HTTP."""

from __future__ import annotations

import logging

from edge_server.errors import EdgeServerError
from edge_server.images.fetch import UrlFetcher
from edge_server.images.sources import ImageReader
from edge_server.images.url_policy import UrlPolicy
from edge_server.models.store import ModelStore
from edge_server.serving.model import Model, load_model
from edge_server.serving.pool import ModelPool
from edge_server.settings import Settings
from engines.device import usable_cpus

log = logging.getLogger(__name__)

MEBI = 2**20


class Appliance:
    """The models on disk, the models in memory, and what turns anything sent into a picture."""

    def __init__(self, settings: Settings) -> None:
        """Touches no disk and loads nothing."""
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
        self.pool = ModelPool(self._load, resolve=self.store.resolve)
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
        return load_model(self.store.find(model_id), threads=self._engine_threads)
