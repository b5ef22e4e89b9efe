"""Several nodes: a run joins a cluster of two, its gangs span both, and the cluster is left as it
was."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from tests.head import running_head
from tests.launcher import HANGS, measure_dit
from tests.tiny_checkpoint import PROMPTS, write_checkpoint

LABELS = [*["D"] * 4, *["DL"] * 4]


@pytest.fixture(scope="module")
def nodes():
    with running_head(nodes=2) as head:
        yield head


def drive(model, folder, nodes, **spec):
    take = [LABELS, [PROMPTS[0]] * len(LABELS)]
    spec = {
        "model": str(model),
        "prompt": PROMPTS[0],
        "takes": [take],
        "frames": 32,
        "address": nodes.address,
        **spec,
    }
    (folder / "spec.json").write_text(json.dumps(spec))
    command = [sys.executable, "-m", "tests.drive", folder / "spec.json", folder / "out.npz"]
    environment = os.environ | nodes.environment
    done = subprocess.run(command, env=environment, timeout=HANGS, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    out = np.load(folder / "out.npz")
    return out["frames"], json.loads(str(out["story"]))


def refused(address, **environment):
    """The last line of a run that may not join this cluster."""
    command = [sys.executable, "-m", "pipeline", "run", "--headless", "--duration", "1"]
    done = subprocess.run(
        [*command, "--ray-address", address],
        env={**os.environ, **environment},
        timeout=HANGS,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    return done.stderr.splitlines()[-1]


def test_gangs_that_span_two_nodes_make_the_same_world(nodes, tmp_path):
    model = write_checkpoint(tmp_path / "stage4")
    one, story = drive(model, tmp_path, nodes)
    assert len(set(story["nodes"])) <= 2 and story["error"] == ""
    many, story = drive(model, tmp_path, nodes, dit=2, vae=4)
    assert len(set(story["nodes"])) == 2
    difference = np.abs(one.astype(int) - many)
    assert difference.max() <= 1 and (difference > 0).mean() < 0.01


def test_too_few_free_places_are_told_in_one_line(nodes, tmp_path):
    model = write_checkpoint(tmp_path / "stage4")
    workers = {"NUM_GPUS_DIT": "4", "NUM_GPUS_VAE": "4"}
    said = refused(nodes.address, MODEL_PATH=str(model), **workers, **nodes.environment)
    assert "8 CPU needed for 4 DiT and 4 VAE workers, 6 of 6 are free" in said


def test_the_dit_group_alone_runs_on_a_cluster_that_exists(nodes, tmp_path):
    model = write_checkpoint(tmp_path / "stage4")
    measure_dit(
        *("2", model, "--ray-address", nodes.address, "--duration", "1"), **nodes.environment
    )


def test_a_cluster_that_is_not_there_is_told_in_one_line(tmp_path):
    model = write_checkpoint(tmp_path / "stage4")
    assert "no cluster could be joined" in refused("127.0.0.1:9", MODEL_PATH=str(model))


@pytest.mark.soak
def test_replicas_on_two_nodes_make_the_worlds_of_one(nodes, tmp_path):
    model = write_checkpoint(tmp_path / "stage4")
    prompts = [PROMPTS[0]] * len(LABELS)
    worlds = [{"seed": seed, "labels": LABELS, "prompts": prompts} for seed in (1, 2, 3, 4)]
    spec = {"model": str(model), "address": nodes.address, "engine": "torch-fp32", "worlds": worlds}
    seen = []
    for replicas in (1, 3):
        (tmp_path / "spec.json").write_text(json.dumps({**spec, "replicas": replicas}))
        command = [sys.executable, "-m", "tests.many", tmp_path / "spec.json", tmp_path / "out.npz"]
        environment = os.environ | nodes.environment
        done = subprocess.run(command, env=environment, timeout=HANGS, capture_output=True)
        assert done.returncode == 0, done.stderr[-2000:]
        out = np.load(tmp_path / "out.npz")
        seen.append([out[f"frames_{number}"] for number in range(len(worlds))])
        assert replicas == 1 or len(set(json.loads(str(out["story"]))["nodes"])) == 2
    for one, many in zip(*seen, strict=True):
        assert (one == many).all()
