"""Plans on disk: what is refused, and in which words."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, fields, replace

import pytest

from engines.artifact import (
    ArtifactError,
    EngineHost,
    EngineKey,
    device_secret,
    read_artifact,
    write_artifact,
)
from engines.base import EngineOpenError, PlanMismatchError
from engines.files import STAGING_PREFIX, sweep_staging
from tests.support import ROOT

HOST = EngineHost(tensorrt="10.3.0", gpu="Orin", compute_capability="8.7", sm_count=8)
KEY = EngineKey(
    weights_sha256="ab" * 32,
    graph="uint8 nhwc bgr",
    precision="fp16",
    batch=(1, 1, 8),
    size_wh=(640, 640),
    host=HOST,
    flags=("level 3", "workspace 1024 MiB"),
)
SECRET = b"s" * 32
PLAN = b"a plan" * 100


@pytest.fixture
def artifact(tmp_path):
    return write_artifact(
        tmp_path / "plans",
        PLAN,
        KEY,
        SECRET,
        outputs=("boxes", "masks"),
        facts={"build_seconds": 143.5, "golden": {"pictures": 12, "worst_iou": 0.994}},
    )


def test_what_was_written_is_read_back(artifact):
    for path in (artifact.plan, artifact.manifest):
        assert read_artifact(path, SECRET, HOST) == artifact
    assert artifact.load_plan() == PLAN
    assert artifact.plan.name.startswith(f"{KEY.digest}.")
    assert artifact.manifest.name == f"{KEY.digest}.json"


def test_the_manifest_can_be_read_by_people(artifact):
    text = artifact.manifest.read_text()
    manifest = json.loads(text)
    assert len(text.splitlines()) > 10
    assert manifest["plan"] == artifact.plan.name
    assert manifest["nbytes"] == len(PLAN)
    assert manifest["key"]["host"]["gpu"] == "Orin"
    assert manifest["facts"]["build_seconds"] == 143.5


CHANGES = {
    "weights_sha256": "cd" * 32,
    "graph": "none",
    "precision": "int8",
    "batch": (1, 2, 8),
    "size_wh": (640, 480),
    "host": replace(HOST, sm_count=4),
    "flags": (),
    "calibration_sha256": "ef" * 32,
}


@pytest.mark.parametrize("name", [field.name for field in fields(EngineKey)])
def test_every_part_of_the_key_makes_another_plan(name):
    assert replace(KEY, **{name: CHANGES[name]}).digest != KEY.digest


def test_the_digest_never_changes_by_itself():
    assert KEY.digest == replace(KEY).digest == "587dd3fd556c16e279526cca61a96975"
    assert len(KEY.digest) == 32


@pytest.mark.parametrize(
    ("gpu", "folder"),
    [
        pytest.param("Orin", "orin-8.7-8sm", id="Jetson"),
        pytest.param("NVIDIA H100 80GB HBM3", "nvidia-h100-80gb-hbm3-8.7-8sm", id="spaces"),
        pytest.param("../x/y", "x-y-8.7-8sm", id="no way out of the folder"),
    ],
)
def test_a_gpu_has_a_folder(gpu, folder):
    assert replace(HOST, gpu=gpu).folder == folder


def edit(artifact, **changes):
    manifest = json.loads(artifact.manifest.read_text())
    artifact.manifest.write_text(json.dumps({**manifest, **changes}))


REFUSED = [
    pytest.param(
        lambda a: a.manifest.unlink(), "missing", "There is no", id="plan without manifest"
    ),
    pytest.param(
        lambda a: a.manifest.write_text("{"), "unreadable", "cannot be read", id="half a manifest"
    ),
    pytest.param(
        lambda a: a.manifest.write_text("[]"), "unreadable", "no JSON object", id="another JSON"
    ),
    pytest.param(lambda a: edit(a, format=2), "format", "format 2", id="a later format"),
    pytest.param(lambda a: edit(a, seal=None), "seal", "not sealed", id="no seal"),
    pytest.param(lambda a: edit(a, seal="0" * 64), "seal", "not sealed", id="a wrong seal"),
    pytest.param(lambda a: edit(a, facts={}), "seal", "changed since", id="edited facts"),
    pytest.param(lambda a: edit(a, sha256="0" * 64), "seal", "changed since", id="another hash"),
    pytest.param(
        lambda a: edit(a, key=asdict(replace(KEY, precision="int8"))),
        "seal",
        "changed since",
        id="another key",
    ),
    pytest.param(lambda a: a.plan.unlink(), "content", "missing or cut", id="no plan"),
    pytest.param(
        lambda a: a.plan.write_bytes(PLAN[:-1]), "content", "600 bytes expected", id="cut plan"
    ),
]


@pytest.mark.parametrize(("harm", "reason", "message"), REFUSED)
def test_what_was_harmed_is_refused(artifact, harm, reason, message):
    harm(artifact)
    with pytest.raises(ArtifactError, match=message) as caught:
        read_artifact(artifact.plan, SECRET, HOST)
    assert caught.value.reason == reason
    assert isinstance(caught.value, PlanMismatchError), "a new build heals it"


def test_other_content_of_the_same_size_is_found_before_it_is_used(artifact):
    artifact.plan.write_bytes(PLAN[:-1] + b"?")
    found = read_artifact(artifact.plan, SECRET, HOST)
    with pytest.raises(ArtifactError, match="damaged") as caught:
        found.load_plan()
    assert caught.value.reason == "content"


def test_a_plan_sealed_on_another_device_is_refused(artifact):
    with pytest.raises(ArtifactError, match="not sealed on this device"):
        read_artifact(artifact.plan, b"t" * 32, HOST)


@pytest.mark.parametrize(
    ("change", "reason", "message"),
    [
        pytest.param({"tensorrt": "10.7.0"}, "tensorrt", "tensorrt 10.3.0, here 10.7.0", id="trt"),
        pytest.param({"gpu": "Thor"}, "gpu", "gpu Orin, here Thor", id="gpu"),
        pytest.param({"compute_capability": "11.0"}, "gpu", "here 11.0", id="capability"),
        pytest.param({"sm_count": 4}, "gpu", "sm_count 8, here 4", id="power mode"),
    ],
)
def test_a_plan_for_something_else_is_refused_naming_the_difference(
    artifact, change, reason, message
):
    with pytest.raises(ArtifactError, match=message) as caught:
        read_artifact(artifact.plan, SECRET, replace(HOST, **change))
    assert caught.value.reason == reason
    assert read_artifact(artifact.plan, SECRET, None) == artifact, "but it can be listed"


def test_a_new_plan_replaces_an_old_one_of_the_same_key(artifact):
    again = write_artifact(artifact.plan.parent, b"new", KEY, SECRET, outputs=("boxes",), facts={})
    assert read_artifact(artifact.manifest, SECRET, HOST) == again
    assert again.load_plan() == b"new"
    assert not artifact.plan.exists()


KILLED_WRITER = """
import os, pathlib, sys
from engines.artifact import EngineHost, EngineKey, write_artifact

folder, step = pathlib.Path(sys.argv[1]), int(sys.argv[2])

def audit(event, arguments):
    global step
    if event in ("os.rename", "os.remove") or event == "open" and str(folder) in str(arguments[0]):
        step -= 1
        if step < 0:
            os.kill(os.getpid(), 9)

host = EngineHost("10.3.0", "Orin", "8.7", 8)
key = EngineKey("ab" * 32, "uint8 nhwc bgr", "fp16", (1, 1, 8), (640, 640), host,
                ("level 3", "workspace 1024 MiB"))
sys.addaudithook(audit)
write_artifact(folder, b"new" * 1000, key, b"s" * 32, outputs=("boxes",), facts={})
"""
STEPS = 7  # open, rename and the folder's sync, for plan and manifest; then the old plan goes
COMMITTED = 5


@pytest.mark.parametrize("step", range(STEPS + 1))
def test_a_writer_killed_at_any_step_leaves_the_old_plan_or_the_new_one(tmp_path, step):
    folder = tmp_path / "plans"
    write_artifact(folder, PLAN, KEY, SECRET, outputs=("boxes", "masks"), facts={})
    done = subprocess.run(
        [sys.executable, "-c", KILLED_WRITER, str(folder), str(step)], cwd=ROOT, check=False
    )
    assert done.returncode == (0 if step == STEPS else -9)
    sweep_staging(folder)
    assert not [name for name in os.listdir(folder) if name.startswith(STAGING_PREFIX)]
    plan = read_artifact(folder / f"{KEY.digest}.json", SECRET, HOST).load_plan()
    assert plan == (PLAN if step < COMMITTED else b"new" * 1000)


def test_the_device_key_is_made_once_and_kept(tmp_path):
    path = tmp_path / "state" / "device.key"
    secret = device_secret(path)
    assert len(secret) == 32
    assert device_secret(path) == secret
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(path.parent) == ["device.key"]
    assert device_secret(tmp_path / "other.key") != secret


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        pytest.param(lambda path: path.chmod(0o640), "mode 0640", id="readable by the group"),
        pytest.param(lambda path: path.write_bytes(b""), "0 bytes", id="empty"),
        pytest.param(lambda path: os.chown(path, 12345, -1), "user 12345", id="another owner"),
    ],
)
def test_a_device_key_that_others_may_know_is_refused(tmp_path, harm, message):
    path = tmp_path / "device.key"
    device_secret(path)
    try:
        harm(path)
    except PermissionError:
        pytest.skip("only root can give files away")
    with pytest.raises(EngineOpenError, match=message) as caught:
        device_secret(path)
    assert "Delete" in str(caught.value)


def test_two_processes_make_one_key(tmp_path):
    program = (
        "import sys, pathlib\n"
        "from engines.artifact import device_secret\n"
        "print(device_secret(pathlib.Path(sys.argv[1])).hex())\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "device.key")]
    racing = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) for _ in range(4)]
    assert len({process.communicate()[0] for process in racing}) == 1
