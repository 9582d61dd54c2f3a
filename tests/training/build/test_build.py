"""Scans of known geometry, in the real file formats, give data with exactly that geometry."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests import blocks
from tests.paths import ROOT
from tests.training import scans
from training.build import scannet
from training.build.config import BuildConfig
from training.build.graph import Rasterizer, describe
from training.build.plan import SOURCES, Task
from training.build.questions import TYPES
from training.build.scene import SceneError
from training.build.sens import read_frames
from training.build.shards import write_shard
from training.data.conversations import load


def _run(*command: object, **more) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", *map(str, command)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        **more,
    )


def _rows(out: Path) -> list[dict]:
    return [
        row for shard in sorted(out.glob("*.parquet")) for row in pq.read_table(shard).to_pylist()
    ]


@pytest.fixture(scope="module")
def roots(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("scans")
    scans.write_scannet(folder / "scannet")
    scans.write_scannet(folder / "scannet", "scene0001_00", exported=True)
    scans.write_scannetpp(folder / "scannetpp")
    return {source: folder / source for source in ("scannet", "scannetpp")}


@pytest.fixture(scope="module")
def built(roots, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("built")
    done = _run(
        "training.build", "--scannet", roots["scannet"], "--scannetpp", roots["scannetpp"],
        "--out", out, "--test-share", 0, "--seed", 3,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def views(built) -> list[tuple[dict, dict[str, dict]]]:
    """Every row with its named objects."""
    return [
        (row, {e["name"]: e for e in json.loads(row["scene_graph"]) if e["name"]})
        for row in _rows(built)
    ]


def test_every_source_gives_images_and_the_camera_must_have_moved(views):
    taken = Counter(f"{row['source']}/{row['scene']}" for row, _ in views)
    assert taken == {
        "scannet/scene0000_00": 2,
        "scannet/scene0001_00": 2,
        "scannetpp/0a1b2c3d4e": 4,
    }


def test_sizes_are_exact_to_a_centimetre(views):
    for row, named in views:
        for name, block in blocks.ASKED.items():
            entry = named[name]
            length, width = sorted(block.sides[:2], reverse=True)
            for key, true in {"length": length, "width": width, "height": block.sides[2]}.items():
                assert entry[f"{key}_m"] == pytest.approx(true, abs=0.01), (row["view"], name, key)


def test_distances_between_centres_are_exact_to_a_centimetre(views):
    for _, named in views:
        for a in blocks.ASKED:
            for b in blocks.ASKED:
                said = math.dist(named[a]["centre_camera_m"], named[b]["centre_camera_m"])
                true = math.dist(blocks.ASKED[a].centre, blocks.ASKED[b].centre)
                assert said == pytest.approx(true, abs=0.01)


def test_small_occluded_and_truncated_objects_and_walls_are_not_asked_about(views):
    for row, named in views:
        entries = {e["label"]: e for e in json.loads(row["scene_graph"])}
        assert entries["suitcase"]["unnamed"] == "occluded"
        assert entries["wall"]["unnamed"] == "category: part of the building"
        assert "cup" not in named
        if entries["sofa"]["truncated"]:
            assert entries["sofa"]["unnamed"] == "truncated"
    assert any(
        e["label"] == "cup" and e["unnamed"] == "small"
        for row, _ in views
        for e in json.loads(row["scene_graph"])
    )


def test_the_image_has_the_colour_of_an_object_at_its_centre_in_the_graph(views):
    """Poses, undistortion and intrinsics are right: each object's own colour is at its centre."""
    for row, named in views:
        rgb = cv2.imdecode(np.frombuffer(row["image"]["bytes"], np.uint8), 1)[..., ::-1]
        for name, block in blocks.ASKED.items():
            u, v = named[name]["centre_uv"]
            seen = rgb[round(v * rgb.shape[0]), round(u * rgb.shape[1])].astype(float)
            angle = np.dot(seen, block.rgb) / np.linalg.norm(seen) / np.linalg.norm(block.rgb)
            if name != "coffee table":  # the lamp stands before its centre
                assert angle > 0.98, (row["source"], row["view"], name, seen)


def test_depth_is_registered_to_the_image(views):
    for row, named in views:
        depth = cv2.imdecode(np.frombuffer(row["depth"]["bytes"], np.uint8), -1)
        assert depth.shape == (row["intrinsics"]["height"], row["intrinsics"]["width"])
        pose = np.array(row["camera_to_world"]).reshape(4, 4)
        for name in ("lamp", "red chair", "blue chair"):
            u, v = named[name]["centre_uv"]
            x, y = round(u * depth.shape[1]), round(v * depth.shape[0])
            k = row["intrinsics"]
            ray = np.array([[[(x - k["cx"]) / k["fx"], (y - k["cy"]) / k["fy"], 1.0]]])
            true = blocks.picture(pose, ray)[1][0, 0]
            assert depth[y, x] / 1000 == pytest.approx(true, abs=0.02), (row["view"], name)


def test_counts_and_relations_are_exact(views):
    asked = Counter()
    for row, named in views:
        left = {name: entry["centre_uv"][0] for name, entry in named.items()}
        turns = row["conversations"]
        for kind, human, model in zip(row["type"], turns[::2], turns[1::2], strict=True):
            question, answer = human["value"], model["value"]
            if kind == "count" and "chairs" in question:
                assert re.search(r"\b2\b", answer), answer
                asked["count"] += 1
            if " to the left of " in question:
                a, b = re.findall("|".join(sorted(named, key=len, reverse=True)), question)
                assert answer.startswith(("Yes", "Indeed")) == (left[a] < left[b])
                asked["left"] += 1
    assert min(asked["count"], asked["left"]) > 0


def test_the_independent_check_finds_no_mismatch(built):
    done = _run("training.build.check", built)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["mismatches"] == 0
    assert set(result["types"]) == set(TYPES)
    assert all(result["types"].values())


def test_the_independent_check_finds_a_number_that_was_changed(built, tmp_path):
    shard = sorted(built.glob("*.parquet"))[0]
    table = pq.read_table(shard)
    rows = table.to_pylist()
    turns = rows[0]["conversations"]
    index = rows[0]["type"].index("absolute_distance")
    answer = turns[2 * index + 1]
    answer["value"] = re.sub(r"\d", lambda digit: str((int(digit[0]) + 1) % 10), answer["value"])
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), tmp_path / shard.name)
    done = _run("training.build.check", tmp_path)
    assert done.returncode == 1
    assert json.loads(done.stdout)["mismatches"] == 1


def test_the_manifest_counts_rows_and_what_was_left_out(built):
    manifest = json.loads((built / "manifest.json").read_text())
    rows = _rows(built)
    assert manifest["rows"] == len(rows)
    assert manifest["questions"] == sum(len(row["type"]) for row in rows)
    assert manifest["objects_not_asked_about"]["occluded"] == len(rows)
    assert manifest["failures"] == []
    page = (built / "statistics.html").read_text()
    assert "absolute_distance" in page
    assert "data:image/png;base64," in page


def test_datasets_reads_the_shards_with_decoded_images(built):
    datasets = pytest.importorskip("datasets")
    files = [str(path) for path in sorted(built.glob("*.parquet"))]
    loaded = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=None)
    row = loaded[0]
    assert row["image"].size == (row["intrinsics"]["width"], row["intrinsics"]["height"])
    assert row["conversations"][0]["from"] == "human"


# Damaged files are left out and counted; they never end the run.


def _report(folder: Path, out: Path):
    return write_shard(Task("train-scannet-00000", "scannet", (folder,)), BuildConfig(), out)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda f: (f / f"{f.name}_vh_clean_2.ply").unlink(), "scene: missing file"),
        (lambda f: (f / f"{f.name}_vh_clean_2.ply").write_bytes(b"ply\n"), "scene: mesh damaged"),
        (lambda f: (f / f"{f.name}.aggregation.json").write_text("{"), "scene: annotation damaged"),
        (
            lambda f: (f / f"{f.name}.aggregation.json").write_text("[]"),
            "scene: annotation damaged",
        ),
        (lambda f: (f / f"{f.name}.sens").unlink(), "scene: no pictures"),
        (
            lambda f: (f / f"{f.name}.sens").write_bytes(b"\3\0\0\0" + bytes(99)),
            "view: sens version",
        ),
        (lambda f: os.truncate(f / f"{f.name}.sens", 9000), "view: colour damaged"),
        (lambda f: (f / f"{f.name}.txt").unlink(), "scene: missing file"),
    ],
)
def test_a_damaged_file_is_counted_under_its_reason(roots, tmp_path, damage, reason):
    folder = tmp_path / "scene0000_00"
    shutil.copytree(roots["scannet"] / "scans" / "scene0000_00", folder)
    damage(folder)
    report = _report(folder, tmp_path)
    assert report.skipped[reason] == 1
    assert report.rows == 0
    assert report.failures == []


def test_frames_without_a_pose_are_skipped_and_the_others_are_used(roots, tmp_path):
    folder = tmp_path / "scene0000_00"
    shutil.copytree(roots["scannet"] / "scans" / "scene0000_00", folder)
    scans.write_sens(folder / "scene0000_00.sens", blocks.POSES, lost=(0,))
    report = _report(folder, tmp_path)
    assert report.skipped["view: no pose"] == 1
    assert report.rows == 2


def test_a_sens_file_truncated_anywhere_raises_scene_errors_only(roots, tmp_path):
    whole = (roots["scannet"] / "scans/scene0000_00/scene0000_00.sens").read_bytes()
    rng = np.random.default_rng(0)
    for length in [*range(0, 400, 7), *rng.integers(400, len(whole), 40)]:
        (tmp_path / "cut.sens").write_bytes(whole[:length])
        skipped: list[SceneError] = []
        try:
            frames = list(read_frames(tmp_path / "cut.sens", lambda pose: True, skipped.append))
        except SceneError:
            continue
        assert len(frames) < 3
        assert skipped


def test_the_instance_masks_of_the_source_are_used_if_there_are_any(roots, tmp_path):
    folder = tmp_path / "scene0000_00"
    shutil.copytree(roots["scannet"] / "scans" / "scene0000_00", folder)
    mask = np.zeros((480, 640), np.uint8)
    mask[100:200, 300:400] = 1  # the table, where no rasterizer would place it
    data = bytes(cv2.imencode(".png", mask)[1])
    with zipfile.ZipFile(folder / "scene0000_00_2d-instance-filt.zip", "w") as archive:
        archive.writestr("instance-filt/0.png", data)
    scene = scannet.read_scene(folder)
    view = next(iter(scene.views(lambda pose: True)))
    entry, bare = describe(scene, view, Rasterizer(scene.mesh))
    assert bare["label"] == ""
    assert entry["label"] == "coffee table"
    assert entry["box_xyxy"] == [300, 100, 400, 200]


def test_an_unexpected_failure_of_one_scene_is_reported_and_the_others_are_built(
    roots, tmp_path, monkeypatch
):
    good = roots["scannet"] / "scans" / "scene0000_00"
    whole = scannet.read_scene

    def read(path):
        if path.name == "broken":
            raise ZeroDivisionError("planted")
        return whole(path)

    monkeypatch.setitem(SOURCES, "scannet", replace(SOURCES["scannet"], read_scene=read))
    task = Task("train-scannet-00000", "scannet", (tmp_path / "broken", good))
    report = write_shard(task, BuildConfig(), tmp_path)
    assert report.rows == 2
    assert report.failures == [[str(tmp_path / "broken"), "ZeroDivisionError: planted"]]


# Resuming.


def _hashes(out: Path) -> dict[str, str]:
    manifest = json.loads((out / "manifest.json").read_text())
    return manifest["sha256"]


@pytest.fixture(scope="module")
def simulated(tmp_path_factory) -> Path:
    pytest.importorskip("training.simulate.renderer", reason="no headless OpenGL here")
    folder = tmp_path_factory.mktemp("simulated")
    done = _run("training.simulate", "--scenes", 320, "--width", 96, "--seed", 4, "--out", folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_a_build_killed_three_times_resumes_to_the_same_bytes(simulated, tmp_path):
    command = ("training.build", "--simulated", simulated, "--seed", 1, "--out")
    assert _run(*command, tmp_path / "whole").returncode == 0
    out = tmp_path / "killed"
    rng = np.random.default_rng(5)
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-m", *map(str, command), str(out), "--workers", "1"],
            cwd=ROOT,
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        time.sleep(rng.uniform(2.0, 5.0))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert _run(*command, out).returncode == 0
    assert _hashes(out) == _hashes(tmp_path / "whole")
    for shard in sorted(out.glob("*.parquet")):
        assert shard.read_bytes() == (tmp_path / "whole" / shard.name).read_bytes()
    assert not list(out.glob(".*"))


def _group_exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_sigterm_ends_a_build_and_leaves_no_incomplete_file(simulated, tmp_path):
    out = tmp_path / "out"
    command = ["training.build", "--simulated", simulated, "--out", out, "--workers", "2"]
    process = subprocess.Popen(
        [sys.executable, "-m", *map(str, command)],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 300
    while not list(out.glob(".*.tmp")):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    assert process.wait(120) == 128 + signal.SIGTERM
    assert not list(out.glob(".*"))
    # Python's resource tracker ends a moment later.
    while _group_exists(process.pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_ray_cluster_gives_the_same_rows(simulated, tmp_path):
    pytest.importorskip("ray")
    command = ("training.build", "--simulated", simulated, "--seed", 1, "--out")
    assert _run(*command, tmp_path / "here").returncode == 0
    done = _run(*command, tmp_path / "ray", "--ray", "local", "--workers", 2)
    assert done.returncode == 0, done.stderr
    assert _hashes(tmp_path / "ray") == _hashes(tmp_path / "here")


def test_a_folder_of_other_settings_is_refused(simulated, tmp_path):
    command = ("training.build", "--simulated", simulated, "--out", tmp_path)
    assert _run(*command).returncode == 0
    done = _run(*command, "--seed", 2)
    assert done.returncode == 2
    assert "another recipe" in " ".join(re.sub("[│╭╮╰╯─]", " ", done.stderr).split())


def test_shards_of_a_build_load_with_depth_and_graph(built):
    sample = next(load(built))
    assert sample.depth_mm.shape == sample.rgb.shape[:2]
    assert len(sample.types) == len(sample.turns)
    assert {entry["label"] for entry in sample.scene_graph} >= {"lamp", "chair"}
