"""Several nodes: a run joins a cluster of two, its gangs span both, and the cluster is left as it
was."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.head import running_head
from tests.tiny_checkpoint import PROMPTS, write_checkpoint

ROOT = Path(__file__).resolve().parent.parent
HANGS = 400
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
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pipeline",
            "run",
            "--headless",
            "--ray-address",
            nodes.address,
            "--duration",
            "1",
        ],
        env=os.environ
        | nodes.environment
        | {"MODEL_PATH": str(model), "NUM_GPUS_DIT": "4", "NUM_GPUS_VAE": "4"},
        timeout=HANGS,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert (
        "8 CPU needed for 4 DiT and 4 VAE workers, 6 of 6 are free" in done.stderr.splitlines()[-1]
    )


def test_the_dit_group_alone_runs_on_a_cluster_that_exists(nodes, tmp_path):
    model = write_checkpoint(tmp_path / "stage4")
    done = subprocess.run(
        [
            "bash",
            ROOT / "start_dit.sh",
            "2",
            model,
            "--ray-address",
            nodes.address,
            "--duration",
            "1",
        ],
        env=os.environ
        | nodes.environment
        | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        timeout=HANGS,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and re.search(
        r"[\d.]+ latents/s, step p50 [\d.]+ ms", done.stderr
    ), done.stderr


def test_a_cluster_that_is_not_there_is_told_in_one_line(tmp_path):
    model = write_checkpoint(tmp_path / "stage4")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pipeline",
            "run",
            "--headless",
            "--ray-address",
            "127.0.0.1:9",
            "--duration",
            "1",
        ],
        env=os.environ | {"MODEL_PATH": str(model)},
        timeout=HANGS,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and "no cluster could be joined" in done.stderr.splitlines()[-1]
