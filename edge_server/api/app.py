"""The HTTP application: every route in one list."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import falcon

from edge_server.api import errors
from edge_server.api.access import Access
from edge_server.api.documents import DocumentResource
from edge_server.api.inference import InferResource, LegacyResource, Runner
from edge_server.api.models import InstalledResource, LoadedResource
from edge_server.api.observe import Observer
from edge_server.api.openapi import Route
from edge_server.api.status import StatusResource
from edge_server.images.sources import ImageReader
from edge_server.models.store import ModelStore
from edge_server.ops.metrics import Metrics
from edge_server.serving.pool import ModelPool
from edge_server.serving.upgrade import Upgrade


def create_app(
    *,
    store: ModelStore,
    pool: ModelPool,
    reader: ImageReader,
    ready: threading.Event,
    access: Access,
    max_images: int,
    upgrades: Callable[[str], Upgrade | None] = lambda model_id: None,
) -> falcon.App[Any, Any]:
    """The WSGI application.

    Args:
        store: the models on disk.
        pool: the models that may be asked.
        reader: turns what callers send into pictures.
        ready: set when ``/readiness`` may say so.
        access: who may ask what.
        max_images: most pictures of one request.
        upgrades: where a model is on its way to a faster engine, by its id.
    """
    metrics = Metrics()
    status = StatusResource(ready, pool, metrics, upgrades)
    loaded = LoadedResource(pool)
    installed = InstalledResource(store, pool, upgrades)
    runner = Runner(pool, metrics, reader.max_pixels)
    infer = InferResource(runner, reader, max_images)
    routes: list[Route] = [
        ("/", status, None),
        ("/info", status, "info"),
        ("/healthz", status, "health"),
        ("/readiness", status, "readiness"),
        ("/metrics", status, "metrics"),
        ("/models", installed, None),
        ("/models/delete", installed, "delete"),
        ("/model/registry", loaded, "registry"),
        ("/model/add", loaded, "add"),
        ("/model/remove", loaded, "remove"),
        ("/model/clear", loaded, "clear"),
        ("/start/{project}/{version}", loaded, "start"),
        ("/clear_cache", loaded, "clear_cache"),
        ("/infer/object_detection", infer, None),
        ("/infer/instance_segmentation", infer, None),
        ("/infer/keypoints_detection", infer, None),
        ("/infer/classification", infer, None),
        ("/infer/semantic_segmentation", infer, None),
        # Every other path of two segments is a model.
        ("/{project}/{version}", LegacyResource(runner, reader), None),
    ]
    documents = DocumentResource(routes)
    routes += [("/openapi.json", documents, "openapi"), ("/docs", documents, "docs")]
    routes += [("/static/{name}", documents, "static")]

    middleware: list[Any] = [Observer(metrics), access]
    app = falcon.App(middleware=middleware)
    app.req_options.keep_blank_qs_values = True
    app.req_options.strip_url_path_trailing_slash = True
    errors.register(app)
    for path, resource, suffix in routes:
        app.add_route(path, resource, suffix=suffix)
    return app
