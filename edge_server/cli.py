"""The ``edge-server`` command. Heavy imports happen inside the command that needs them."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_server import __version__
from edge_server.errors import EdgeServerError

if TYPE_CHECKING:
    from edge_server.models.package import ModelPackage
    from edge_server.models.store import ModelStore
    from edge_server.settings import Settings


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status.

    It is 0, 1 after an error that was explained, or 75 when it is to be started again.
    """
    # NumPy's matrix products here are small: its thread pool would only spin against the
    # server's own threads and the engine's. Read when NumPy is first imported, later than this.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    arguments = _parser().parse_args(argv)
    level = logging.INFO if arguments.run is _start else logging.WARNING
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")
    try:
        status: int | None = arguments.run(arguments)
    except EdgeServerError as error:
        print(f"edge-server: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"edge-server: {error.filename or ''}: {error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return status or 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edge-server", description="Serve computer-vision models over HTTP, on this machine."
    )
    parser.add_argument("--version", action="version", version=f"Edge Server {__version__}")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--data-dir",
        type=Path,
        help="where models are kept (default: $EDGE_SERVER_DATA, else /var/lib/edge-server "
        "when it may be written, else the user's data folder)",
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_start(commands, common)
    _add_models(commands, common)
    _add_engines(commands, common)
    _add_infer(commands, common)
    _add_demo(commands, common)
    return parser


def _add_start(commands: Any, common: argparse.ArgumentParser) -> None:  # noqa: ANN401
    start = commands.add_parser("start", parents=[common], help="run the server")
    start.add_argument("--host", help="address to listen on (default: 127.0.0.1)")
    start.add_argument("--port", type=int, help="port to listen on, 0 = a free one (default: 9001)")
    start.add_argument("--unix-socket", metavar="PATH", help="listen on this socket, too")
    start.add_argument("--config", type=Path, help="a TOML file with settings")
    start.set_defaults(run=_start)


def _add_models(commands: Any, common: argparse.ArgumentParser) -> None:  # noqa: ANN401
    models = commands.add_parser("models", help="add, list and delete models")
    verbs = models.add_subparsers(metavar="VERB", required=True)
    add = verbs.add_parser("add", parents=[common], help="install a model from disk")
    add.add_argument("id", help="the id to serve it under, such as bolts/1")
    add.add_argument("source", type=Path, help="an .onnx file, or a folder with a model package")
    add.add_argument("--task", help="what the model does, when its files do not say")
    add.add_argument("--family", metavar="NAME", help="what it is, such as yolov8 or rfdetr")
    add.add_argument(
        "--classes", type=Path, metavar="FILE", help="names of its classes, one a line"
    )
    add.set_defaults(run=_models_add)
    listing = verbs.add_parser("list", parents=[common], help="show the installed models")
    listing.set_defaults(run=_models_list)
    delete = verbs.add_parser("delete", parents=[common], help="delete a model from disk")
    delete.add_argument("id")
    delete.set_defaults(run=_models_delete)


def _add_engines(commands: Any, common: argparse.ArgumentParser) -> None:  # noqa: ANN401
    engines = commands.add_parser("engines", help="TensorRT engines for the GPU of this machine")
    verbs = engines.add_subparsers(metavar="VERB", required=True)
    build = verbs.add_parser("build", parents=[common], help="build one without waiting for it")
    build.add_argument("id", help="an installed model, such as bolts/1")
    build.add_argument(
        "--precision",
        choices=("auto", "fp32", "fp16", "int8"),
        help="default: the setting, which is auto: the fastest that answers like the weights",
    )
    build.add_argument(
        "--calibration", type=Path, metavar="FOLDER", help="your own pictures: allows int8"
    )
    build.set_defaults(run=_engines_build)
    listing = verbs.add_parser(
        "list", parents=[common], help="show engines, and why there are none"
    )
    listing.set_defaults(run=_engines_list)
    verify = verbs.add_parser("verify", parents=[common], help="compare engines with their weights")
    verify.set_defaults(run=_engines_verify)
    prune = verbs.add_parser("prune", parents=[common], help="delete those unused longest")
    prune.add_argument("--max-mib", type=int, required=True, metavar="N", help="what may stay")
    prune.set_defaults(run=_engines_prune)


def _add_infer(commands: Any, common: argparse.ArgumentParser) -> None:  # noqa: ANN401
    infer = commands.add_parser("infer", parents=[common], help="run a model on one picture")
    infer.add_argument("image", type=Path)
    infer.add_argument("--model", required=True, metavar="ID", help="such as demo-parts/1")
    infer.add_argument("--url", help="ask the server there (default: run in this process)")
    infer.add_argument("--out", type=Path, metavar="JPEG", help="write the annotated picture")
    infer.set_defaults(run=_infer)


def _add_demo(commands: Any, common: argparse.ArgumentParser) -> None:  # noqa: ANN401
    demo = commands.add_parser(
        "demo", parents=[common], help="see it work: one picture, one server"
    )
    demo.add_argument(
        "--out", type=Path, default=Path("demo.jpg"), metavar="JPEG", help="default: demo.jpg"
    )
    demo.set_defaults(run=_demo)


def _start(arguments: argparse.Namespace) -> int:
    from edge_server.api.server import serve
    from edge_server.settings import load_settings

    settings = load_settings(
        data_dir=arguments.data_dir,
        config=arguments.config,
        overrides={
            "host": arguments.host,
            "port": arguments.port,
            "unix_socket": arguments.unix_socket,
        },
    )
    logging.getLogger().setLevel(settings.log_level.upper())
    return serve(settings, announce=lambda line: print(line, flush=True))


def _models_add(arguments: argparse.Namespace) -> None:
    from edge_server.serving.model import load_model
    from engines.device import usable_cpus

    package = _store(arguments).install(
        arguments.id,
        arguments.source,
        task=arguments.task,
        family=arguments.family,
        classes=arguments.classes,
        prove=lambda package: load_model(package, threads=usable_cpus()).close(),
    )
    print(f"Added {_describe(package)}.")
    for note in package.notes:
        print(f"Note: {note}")


def _models_list(arguments: argparse.Namespace) -> None:
    store = _store(arguments)
    for model_id in store.ids():
        origin = "  [comes with Edge Server]" if store.is_bundled(model_id) else ""
        try:
            print(_describe(store.find(model_id)) + origin)
        except EdgeServerError as error:
            print(f"{model_id}  DAMAGED: {error}")


def _models_delete(arguments: argparse.Namespace) -> None:
    _store(arguments).delete(arguments.id)
    print(f"Deleted {arguments.id}.")


def _engines_build(arguments: argparse.Namespace) -> None:
    from edge_server.engine_commands import build
    from edge_server.settings import load_settings

    overrides = {"precision": arguments.precision}
    settings = load_settings(data_dir=arguments.data_dir, overrides=overrides)
    build(settings, arguments.id, arguments.calibration)


def _engines_list(arguments: argparse.Namespace) -> None:
    from edge_server.engine_commands import show

    show(_settings(arguments))


def _engines_verify(arguments: argparse.Namespace) -> None:
    from edge_server.engine_commands import verify

    verify(_settings(arguments))


def _engines_prune(arguments: argparse.Namespace) -> None:
    from edge_server.engine_commands import prune

    prune(_settings(arguments), arguments.max_mib)


def _infer(arguments: argparse.Namespace) -> None:
    from edge_server.client import infer_in_process, infer_over_http
    from edge_server.report import prediction_table, write_visualization

    encoded = arguments.image.read_bytes()
    draw = arguments.out is not None
    if arguments.url:
        answer = infer_over_http(arguments.url, arguments.model, encoded, draw=draw)
    else:
        answer = infer_in_process(_settings(arguments), arguments.model, encoded, draw=draw)
    print(prediction_table(answer))
    if draw:
        write_visualization(answer, arguments.out)
        print(f"The annotated picture is {arguments.out}")


def _demo(arguments: argparse.Namespace) -> None:
    from edge_server.demo import run_demo

    run_demo(out=arguments.out, data_dir=arguments.data_dir)


def _settings(arguments: argparse.Namespace) -> Settings:
    from edge_server.settings import load_settings

    return load_settings(data_dir=arguments.data_dir)


def _store(arguments: argparse.Namespace) -> ModelStore:
    from edge_server.models.store import ModelStore

    return ModelStore(_settings(arguments).data_dir / "models")


def _describe(package: ModelPackage) -> str:
    size = package.network_input
    return (
        f"{package.model_id}  {package.task}  {package.family}  "
        f"{len(package.class_names)} classes  {size.width}x{size.height}"
    )
