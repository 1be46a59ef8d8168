"""The engine artifact: a TensorRT plan and a manifest that says what it is valid for.

A plan is native code inside a data file, so a manifest carries a seal that only this device can
make, and no plan is given to TensorRT before its seal and its content were checked.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from engines.base import EngineOpenError, PlanMismatchError
from engines.files import folder_lock, publish_file

FORMAT = 1  # raised when older manifests, keys or seals no longer mean the same
_SEAL_DOMAIN = b"engine manifest\0"  # so that a seal is never a valid seal of something else
_SECRET_BYTES = 32


class ArtifactError(PlanMismatchError):
    """An artifact must not be used; ``reason`` is one word, the message a sentence.

    Attributes:
        reason: ``missing``, ``unreadable``, ``format``, ``seal``, ``content``, ``tensorrt`` or
            ``gpu``.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class EngineHost:
    """What a plan is tied to for life.

    Attributes:
        tensorrt: full version of the imported module, such as ``10.3.0``.
        gpu: as CUDA calls it, such as ``Orin``: the same for Orin Nano, NX and AGX.
        compute_capability: such as ``8.7``.
        sm_count: streaming multiprocessors that are on; power modes switch some off.
    """

    tensorrt: str
    gpu: str
    compute_capability: str
    sm_count: int

    @property
    def folder(self) -> str:
        """A folder name for plans of this GPU, such as ``orin-8.7-8sm``."""
        name = re.sub(r"[^a-z0-9]+", "-", self.gpu.lower()).strip("-")
        return f"{name}-{self.compute_capability}-{self.sm_count}sm"


@dataclass(frozen=True)
class EngineKey:
    """Everything that makes a plan what it is: equal keys, interchangeable plans.

    Attributes:
        weights_sha256: content hash of the ONNX file, external data included.
        graph: what was changed in the graph before the build, as a text.
        precision: ``fp32``, ``fp16`` or ``int8``.
        batch: smallest, best and largest number of pictures.
        size_wh: of the pictures, in pixels.
        host: the TensorRT and the GPU it was built on.
        flags: builder settings that change the plan, in a fixed order.
        calibration_sha256: of the pictures that INT8 ranges come from.
    """

    weights_sha256: str
    graph: str
    precision: str
    batch: tuple[int, int, int]
    size_wh: tuple[int, int]
    host: EngineHost
    flags: tuple[str, ...] = ()
    calibration_sha256: str | None = None

    @property
    def digest(self) -> str:
        """32 hexadecimal digits, which the files on disk are named by."""
        return hashlib.sha256(_canonical([FORMAT, asdict(self)])).hexdigest()[:32]


@dataclass(frozen=True)
class EngineArtifact:
    """A plan on disk whose manifest has a valid seal.

    Attributes:
        plan: the file; its content is checked by ``load_plan``.
        key: what it was built from and for.
        sha256: of the plan.
        nbytes: of the plan.
        outputs: names of the network's outputs in the order of the ONNX file.
        facts: whatever else the builder found worth telling a person.
    """

    plan: Path
    key: EngineKey
    sha256: str
    nbytes: int
    outputs: tuple[str, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def manifest(self) -> Path:
        """The JSON file beside the plan."""
        return _manifest_of(self.plan)

    def load_plan(self) -> bytes:
        """The plan, checked: these very bytes were sealed on this device.

        Raises:
            ArtifactError: the file is missing, or its size or hash differs.
        """
        try:
            content = self.plan.read_bytes()
        except OSError as error:
            raise ArtifactError("missing", f"{self.plan.name} cannot be read: {error}.") from error
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise ArtifactError(
                "content",
                f"{self.plan.name} is damaged: {len(content)} bytes were found where its "
                f"manifest has {self.nbytes}, or others. It must be built again.",
            )
        return content


def write_artifact(
    folder: Path,
    plan: bytes,
    key: EngineKey,
    secret: bytes,
    *,
    outputs: tuple[str, ...],
    facts: Mapping[str, Any],
) -> EngineArtifact:
    """Publish a plan and its sealed manifest in ``folder``.

    The plan is ``<digest of the key>.<hash>.plan``, the manifest ``<digest of the key>.json``. The
    manifest is written last and replaces an older one at once, whose plan is still there: a power
    cut at any step leaves the old artifact or the new one.

    Args:
        folder: made if it does not exist.
        plan: what TensorRT's builder returned.
        key: what it was built from and for.
        secret: of ``device_secret``.
        outputs: names of the network's outputs in the order of the ONNX file.
        facts: for people, as JSON: build seconds, agreement with the ONNX engine, versions.

    Raises:
        OSError: the disk is full, read-only or failing.
    """
    sha256 = hashlib.sha256(plan).hexdigest()
    artifact = EngineArtifact(
        plan=folder / f"{key.digest}.{sha256[:8]}.plan",
        key=key,
        sha256=sha256,
        nbytes=len(plan),
        outputs=outputs,
        facts=dict(facts),
    )
    manifest = {"format": FORMAT, **asdict(artifact), "plan": artifact.plan.name}
    manifest["seal"] = _seal(manifest, secret)
    publish_file(artifact.plan, plan)
    publish_file(artifact.manifest, json.dumps(manifest, indent=2).encode() + b"\n")
    for older in folder.glob(f"{key.digest}.*.plan"):
        if older != artifact.plan:
            older.unlink()
    return artifact


def read_artifact(path: Path, secret: bytes, host: EngineHost | None) -> EngineArtifact:
    """The artifact at ``path``, if it was made on this device and still fits it.

    Reads the manifest and the size of the plan; the plan's content is hashed when it is loaded.

    Args:
        path: the plan or its manifest.
        secret: of ``device_secret``.
        host: what the plan must be made for; None to list what is there.

    Raises:
        ArtifactError: with the reason, and the sentence for the operator.
    """
    path = _manifest_of(path)
    manifest = _read_manifest(path)
    if manifest.get("format") != FORMAT:
        raise ArtifactError(
            "format", f"{path.name} has format {manifest.get('format')}; this is {FORMAT}."
        )
    if not hmac.compare_digest(str(manifest.get("seal")), _seal(manifest, secret)):
        raise ArtifactError(
            "seal", f"{path.name} was not sealed on this device, or was changed since."
        )
    artifact = _parse(path, manifest)
    if not artifact.plan.is_file() or artifact.plan.stat().st_size != artifact.nbytes:
        raise ArtifactError(
            "content", f"{artifact.plan.name} is missing or cut: {artifact.nbytes} bytes expected."
        )
    if host is not None:
        _check_host(artifact.key.host, host, path.name)
    return artifact


def device_secret(path: Path) -> bytes:
    """The key that seals this device's engines, made on first use.

    Args:
        path: of the key file; readable by the service's own user alone.

    Raises:
        EngineOpenError: others can read the file, another user owns it, or it is no key.
        OSError: it can be neither read nor made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with folder_lock(path.parent):
        if not path.exists():
            publish_file(path, secrets.token_bytes(_SECRET_BYTES), mode=0o600)
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        secret = file.read()
    advice = f"Delete {path}; engines are then built again."
    if status.st_uid != os.geteuid():
        raise EngineOpenError(f"The device key belongs to user {status.st_uid}. {advice}")
    if stat.S_IMODE(status.st_mode) & 0o077:
        mode = stat.S_IMODE(status.st_mode)
        raise EngineOpenError(f"Others may have read the device key: mode {mode:04o}. {advice}")
    if len(secret) != _SECRET_BYTES:
        raise EngineOpenError(f"The device key has {len(secret)} bytes, not 32. {advice}")
    return secret


def _manifest_of(path: Path) -> Path:
    return path.with_name(path.name.partition(".")[0] + ".json")


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _seal(manifest: Mapping[str, Any], secret: bytes) -> str:
    """HMAC-SHA256 over everything in the manifest but the seal itself."""
    sealed = {name: value for name, value in manifest.items() if name != "seal"}
    return hmac.new(secret, _SEAL_DOMAIN + _canonical(sealed), hashlib.sha256).hexdigest()


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise ArtifactError("missing", f"There is no {path.name}.") from error
    except (OSError, ValueError) as error:
        raise ArtifactError("unreadable", f"{path.name} cannot be read: {error}.") from error
    if not isinstance(manifest, dict):
        raise ArtifactError("unreadable", f"{path.name} is no JSON object.")
    return manifest


def _parse(path: Path, manifest: Mapping[str, Any]) -> EngineArtifact:
    """A manifest whose seal is valid is our own writing, so that its fields need no doubt."""
    fields_of_key = {**manifest["key"], "host": EngineHost(**manifest["key"]["host"])}
    for name in ("batch", "size_wh", "flags"):
        fields_of_key[name] = tuple(fields_of_key[name])
    return EngineArtifact(
        plan=path.with_name(manifest["plan"]),
        key=EngineKey(**fields_of_key),
        sha256=manifest["sha256"],
        nbytes=manifest["nbytes"],
        outputs=tuple(manifest["outputs"]),
        facts=manifest["facts"],
    )


def _check_host(built: EngineHost, here: EngineHost, name: str) -> None:
    """Refuse a plan of another TensorRT or GPU, naming every difference."""
    facts, wanted = asdict(built), asdict(here)
    differences = [
        f"{field} {facts[field]}, here {wanted[field]}"
        for field in facts
        if facts[field] != wanted[field]
    ]
    if differences:
        reason = "gpu" if built.tensorrt == here.tensorrt else "tensorrt"
        raise ArtifactError(reason, f"{name} was built for {'; '.join(differences)}.")
