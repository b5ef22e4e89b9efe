"""A cluster of one's own that dies, freezes or sleeps: a pause, and the world goes on."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from tests.tiny_checkpoint import PROMPTS, write_checkpoint

HANGS = 240  # seconds; a drive takes about twenty on an idle machine
LABELS = ["D", "D", "DL", "DL", "DR", "B", "D", "D"] * 4
SPEC = {
    "seed": 7,
    "prompt": PROMPTS[2],
    "takes": [[LABELS, [PROMPTS[2]] * len(LABELS)]],
    "frames": 4 * len(LABELS),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("weights") / "stage4")


@pytest.fixture
def drive(tmp_path, model):
    """Run a spec with a cluster of its own: (frames, story)."""

    def run(**spec):
        (tmp_path / "spec.json").write_text(json.dumps({**SPEC, "model": str(model), **spec}))
        command = [sys.executable, "-m", "tests.drive", tmp_path / "spec.json", tmp_path / "o.npz"]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        done = subprocess.run(
            command, env=environment, timeout=HANGS, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-2000:]
        out = np.load(tmp_path / "o.npz")
        return out["frames"], json.loads(str(out["story"]))

    return run


@pytest.fixture(scope="module")
def undisturbed(model):
    from the_matrix import the_matrix

    api = the_matrix(generation_model_path=model, streaming_model_path=model)
    return np.concatenate([latent for _, latent in api.stream(PROMPTS[2], LABELS, seed=7)])


@pytest.mark.parametrize("fault", [["kill", "gcs_server"], ["kill", "raylet"], ["stop", "raylet"]])
def test_a_lost_cluster_is_replaced_and_not_a_byte_differs(drive, undisturbed, fault):
    frames, story = drive(faults={"40": fault})
    assert story["error"] == "" and (frames == undisturbed).all()
    assert story["summary"]["restarts"] == 1
    assert any("Ray head" in event.get("message", "") for event in story["events"])


@pytest.mark.parametrize("fault", [["kill", "raylet"], ["kill", "gcs_server", 1.0]])
def test_a_cluster_that_dies_while_the_models_load_gets_one_more_attempt(drive, undisturbed, fault):
    frames, story = drive(loading=[fault])
    assert story["error"] == "" and (frames == undisturbed).all()
    assert any("once more" in event.get("message", "") for event in story["events"])


def test_time_in_which_nobody_ran_is_no_fault(drive, undisturbed):
    frames, story = drive(acts={"40": ["suspend", 15]})
    assert story["error"] == "" and (frames == undisturbed).all()
    assert story["summary"]["restarts"] == 0 and story["summary"]["late_slots"] < 60
