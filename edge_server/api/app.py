"""The HTTP application: every route in one list."""

from __future__ import annotations

import threading
from typing import Any

import falcon

from edge_server.api import errors
from edge_server.api.inference import InferResource, LegacyResource
from edge_server.api.models import ModelResource
from edge_server.api.status import StatusResource
from edge_server.images.sources import ImageReader
from edge_server.serving.pool import ModelPool


def create_app(
    pool: ModelPool, reader: ImageReader, ready: threading.Event
) -> falcon.App[Any, Any]:
    """The WSGI application over a pool of models.

    Args:
        pool: the models that may be asked.
        reader: turns what callers send into pictures.
        ready: set when ``/readiness`` may say so.
    """
    app = falcon.App()
    app.req_options.keep_blank_qs_values = True
    app.req_options.strip_url_path_trailing_slash = True
    errors.register(app)

    status = StatusResource(ready)
    models = ModelResource(pool)
    app.add_route("/", status)
    app.add_route("/info", status, suffix="info")
    app.add_route("/healthz", status, suffix="health")
    app.add_route("/readiness", status, suffix="readiness")
    app.add_route("/model/registry", models, suffix="registry")
    app.add_route("/model/add", models, suffix="add")
    app.add_route("/model/remove", models, suffix="remove")
    app.add_route("/model/clear", models, suffix="clear")
    infer = InferResource(pool, reader)
    app.add_route("/infer/object_detection", infer)
    app.add_route("/infer/instance_segmentation", infer)
    app.add_route("/infer/keypoints_detection", infer)
    app.add_route("/infer/classification", infer)
    app.add_route("/infer/semantic_segmentation", infer)
    # Every other path of two segments is a model.
    app.add_route("/{project}/{version}", LegacyResource(pool, reader))
    return app
