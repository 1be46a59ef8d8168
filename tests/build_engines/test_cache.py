"""Engines on disk: the old or the new one, never a broken one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest

from build_engines.cache import EngineCache, Failure, now, wait_s
from engines.artifact import ArtifactError
from engines.files import STAGING_PREFIX
from tests.build_engines.support import ORIN, VERSIONS, recipe
from tests.doubles.install import child_environment
from tests.support import ROOT

KEY = recipe().key("0" * 64, ORIN)
OTHER = recipe(precision="fp16").key("0" * 64, ORIN)


@pytest.fixture
def cache(tmp_path):
    return EngineCache(tmp_path / "engines", tmp_path / "state" / "device.key")


def put(cache, key=KEY, plan=b"plan", model="parts/1"):
    trial = cache.write(
        cache.root / f"{STAGING_PREFIX}trial", key, plan, outputs=("y",), facts={"build_s": 1.5}
    )
    return cache.publish(model, trial)


def files(cache):
    return sorted(
        str(path.relative_to(cache.root))
        for path in cache.root.rglob("*")
        if path.is_file() and f"{STAGING_PREFIX}trial" not in path.parts
    )


def test_what_was_published_is_found_where_people_look_for_it(cache):
    artifact = put(cache)
    assert cache.find("parts/1", KEY) == artifact
    assert artifact.load_plan() == b"plan"
    folder = f"orin-8.7-8sm/parts/1/{KEY.digest}"
    assert files(cache) == [f"{folder}.{artifact.sha256[:8]}.plan", f"{folder}.json"]
    assert json.loads(artifact.manifest.read_text())["facts"] == {"build_s": 1.5}


@pytest.mark.parametrize(
    ("model", "key"),
    [
        pytest.param("parts/1", OTHER, id="another key"),
        pytest.param("parts", KEY, id="another model"),
        pytest.param("parts/1", replace(KEY, host=replace(ORIN, sm_count=4)), id="another device"),
    ],
)
def test_nothing_else_is_found(cache, model, key):
    put(cache)
    assert cache.find(model, key) is None


def test_publishing_again_keeps_the_engine_that_is_there(cache):
    put(cache)
    assert put(cache, plan=b"another").load_plan() == b"plan"


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda a: a.plan.write_bytes(b"pla"), id="plan cut"),
        pytest.param(lambda a: a.plan.unlink(), id="plan gone"),
        pytest.param(lambda a: a.manifest.write_text("{"), id="manifest cut"),
        pytest.param(
            lambda a: a.manifest.write_text(a.manifest.read_text().replace("1.5", "2.5")),
            id="manifest changed",
        ),
    ],
)
def test_a_broken_engine_is_put_out_of_use_and_can_be_built_again(cache, damage, caplog):
    artifact = put(cache)
    damage(artifact)
    assert cache.find("parts/1", KEY) is None
    assert "An engine of parts/1 is put out of use: " in caplog.text
    assert not artifact.plan.exists()
    assert put(cache, plan=b"new").load_plan() == b"new"


def test_an_engine_of_another_device_key_is_not_used(cache, tmp_path):
    put(cache)
    stranger = EngineCache(cache.root, tmp_path / "other" / "device.key")
    assert stranger.find("parts/1", KEY) is None


def test_a_refused_engine_stays_out_and_says_why(cache):
    artifact = put(cache)
    cache.quarantine("parts/1", KEY, "IoU 0.3 on 000.jpg")
    assert cache.find("parts/1", KEY) is None
    failure = cache.failure("parts/1", KEY)
    assert (failure.kind, failure.message) == ("refused", "IoU 0.3 on 000.jpg")
    assert wait_s(failure, *now()) is None
    assert not artifact.plan.exists()
    assert artifact.manifest.with_suffix(".bad.json").exists(), "for people"


def test_failures_are_counted_until_an_engine_is_published(cache):
    for _ in range(2):
        cache.note_failure("parts/1", KEY, "crashed", "SIGSEGV")
    uptime_s, boot = now()
    failure = cache.failure("parts/1", KEY)
    assert failure == Failure("crashed", "SIGSEGV", 2, failure.uptime_s, boot)
    assert 0 <= uptime_s - failure.uptime_s < 60
    assert cache.failure("parts/1", OTHER) is None
    put(cache)
    assert cache.failure("parts/1", KEY) is None


def test_a_damaged_record_of_failures_is_none(cache):
    cache.note_failure("parts/1", KEY, "crashed", "SIGSEGV")
    (record,) = cache.root.rglob("*.failed.json")
    record.write_text("{")
    assert cache.failure("parts/1", KEY) is None


@pytest.mark.parametrize(
    ("kind", "tries", "failed_s", "now_s", "boot", "wait"),
    [
        pytest.param("crashed", 1, 1000, 1000, "a", 60, id="a minute after the first"),
        pytest.param("crashed", 1, 1000, 1050, "a", 10, id="what is left of it"),
        pytest.param("crashed", 1, 1000, 1061, "a", 0, id="due"),
        pytest.param("out_of_memory", 2, 1000, 1000, "a", 300, id="five after the second"),
        pytest.param("timed_out", 3, 1000, 9e9, "a", None, id="never after the third"),
        pytest.param("crashed", 2, 9000, 20, "b", 280, id="since boot after a boot"),
        pytest.param("parser", 1, 1000, 9e9, "a", None, id="the network does not change"),
        pytest.param("unsupported", 1, 1000, 9e9, "a", None, id="nor does TensorRT"),
        pytest.param("refused", 1, 1000, 9e9, "a", None, id="refused is refused"),
    ],
)
def test_back_off(kind, tries, failed_s, now_s, boot, wait):
    assert wait_s(Failure(kind, "", tries, failed_s, "a"), now_s, boot) == wait


def test_pruning_goes_by_last_use_and_spares_what_is_in_use(cache):
    keys = [recipe(workspace_mib=mib).key("0", ORIN) for mib in (1, 2, 3, 4)]
    made = [put(cache, key, plan=b"x" * 100) for key in keys]
    for age, artifact in enumerate(made):
        os.utime(artifact.manifest, (1e9 + age, 1e9 + age))
    cache.find("parts/1", keys[0])  # used just now
    assert cache.prune(250, in_use={made[1].plan}) == [made[2], made[3]]
    assert [artifact.plan.exists() for artifact in made] == [True, True, False, False]
    assert cache.find("parts/1", keys[1]) is not None
    assert cache.prune(250) == []
    assert cache.prune(0) == [made[0], made[1]], "the one looked for last is deleted last"
    assert files(cache) == []


def test_entries_tell_the_good_from_the_bad(cache):
    good, bad = put(cache), put(cache, OTHER)
    bad.plan.write_bytes(b"")
    found = dict(cache.entries())
    assert found[good.manifest] == good
    assert isinstance(found[bad.manifest], ArtifactError)
    assert found[bad.manifest].reason == "content"


def test_sweeping_deletes_what_nobody_finished_and_nothing_else(cache):
    artifact = put(cache)
    folder = artifact.plan.parent
    (folder / f"{STAGING_PREFIX}x").mkdir()
    (folder / f"{STAGING_PREFIX}y").write_text("half")
    (folder / f"{OTHER.digest}.0.plan").write_bytes(b"no manifest yet")
    (folder / f"{KEY.digest}.0.plan").write_bytes(b"replaced by what the manifest names")
    cache.note_failure("parts/2", KEY, "crashed", "")
    cache.timing_cache(ORIN).write_bytes(b"timings")
    before = files(cache)
    cache.sweep()
    assert len(before) - len(files(cache)) == 3
    assert cache.find("parts/1", KEY) == artifact
    assert cache.failure("parts/2", KEY)
    assert cache.timing_cache(ORIN).read_bytes() == b"timings"


def test_nothing_is_swept_under_a_running_build(cache):
    half = cache.folder(ORIN) / "parts" / f"{KEY.digest}.0.plan"
    half.parent.mkdir()
    half.write_bytes(b"")
    with cache.build_lock(ORIN):
        cache.sweep()
        assert half.exists()
        with pytest.raises(BlockingIOError), cache.build_lock(ORIN):
            pass
    cache.sweep()
    assert not half.exists()


@pytest.mark.parametrize("model", ["", "..", "../other", "/etc", "a//b", ".hidden/1", "a/.."])
def test_no_model_leads_out_of_the_folder(cache, model):
    with pytest.raises(ValueError, match="is no name for a model"):
        cache.find(model, KEY)


@pytest.mark.parametrize("version", [VERSIONS[1]])
def test_killed_at_any_write_a_build_leaves_the_old_and_the_new_engine_or_the_old(
    version, tmp_path
):
    script = ROOT / "tests" / "build_engines" / "killed_builds.py"
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)],
        env=child_environment(version),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["kills"] > 30
    assert told["old"] == told["kills"] + 1, "the engine that was there is always usable"
    assert told["broken"] == []
    assert told["left"] == []
    assert 0 < told["new"] < told["kills"], "some kills come after the new engine, most before"
