"""The session over real Ray: live equals offline, many workers equal one, and faults cost a pause
but never the world.

One cluster serves the module; every drive is a launcher of its own that joins it and leaves it
running."""

import json
import os
import random
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from actors.source import WorldInfo
from models.checkpoint import Checkpoint
from models.device import use_threads
from models.parts import Parts
from pipeline.stage.control_log import read_control_log
from tests.dream import again
from tests.faults import worker_faults
from tests.head import running_head
from tests.tiny_checkpoint import PROMPTS, write_checkpoint
from the_matrix import the_matrix

CPU = torch.device("cpu")
HANGS = 120
LABELS = [*["D"] * 6, *["DL"] * 4, *["DR"] * 5, *["B"] * 3]
TEXTS = [*[PROMPTS[2]] * 9, *[PROMPTS[1]] * 9]
FRAMES = 4 * len(LABELS)
ENGINE = "torch-fp32"  # ranks and shards compute in PyTorch, and a world driven directly too
SPEC = {
    "engine": ENGINE,
    "seed": 7,
    "prompt": PROMPTS[2],
    "takes": [[LABELS, TEXTS]],
    "frames": FRAMES,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Weights whose latents are 16 pixels wide, unlike the embedded ones."""
    return write_checkpoint(tmp_path_factory.mktemp("weights") / "stage4", patch_size=2)


@pytest.fixture(scope="module")
def head():
    with running_head() as head:
        yield head


@pytest.fixture(scope="module")
def drive(head, tmp_path_factory):
    """Run a spec in its own launcher on the module's cluster: (frames, story)."""

    def run(model: Path, **spec):
        folder = tmp_path_factory.mktemp("drive")
        text = json.dumps({**SPEC, "model": str(model), "address": head.address, **spec})
        (folder / "spec.json").write_text(text)
        command = [sys.executable, "-m", "tests.drive", folder / "spec.json", folder / "out.npz"]
        killed = spec.get("killed", False)
        done = subprocess.run(
            command,
            env=os.environ | head.environment,
            timeout=HANGS,
            capture_output=True,
            text=True,
        )
        assert done.returncode == (-signal.SIGKILL if killed else 0), done.stderr[-2000:]
        if killed:
            return np.zeros(0), {}
        out = np.load(folder / "out.npz")
        return out["frames"], json.loads(str(out["story"]))

    return run


@pytest.fixture(scope="module")
def undisturbed(drive, model):
    return drive(model)


@pytest.fixture(scope="module")
def two_and_two(drive, model):
    return drive(model, dit=2, vae=2)


def directly(model, seed, labels, texts):
    """World and decoder in this process, without any of the machinery."""
    threads = torch.get_num_threads()
    use_threads(1)
    checkpoint = Checkpoint.open(model)
    parts = Parts(replace(checkpoint, engine=ENGINE), CPU)
    world = parts.world()
    world.reset(seed, texts[0], checkpoint.start_latents(texts[0]))
    decoder = parts.decoder()
    frames = []
    for index, (label, text) in enumerate(zip(labels, texts, strict=True)):
        if index and text != texts[index - 1]:
            world.set_prompt(text)
        frames.append(decoder.push(world.step([label]).latents))
    use_threads(threads)
    return np.concatenate(frames)


@pytest.fixture(scope="module")
def direct(model):
    return directly(model, 7, LABELS, TEXTS)


def test_live_frames_are_those_of_the_world_driven_directly(undisturbed, direct):
    frames, story = undisturbed
    assert frames.shape == direct.shape and (frames == direct).all()
    assert [label[2] for label in story["labels"][::4]][: len(LABELS)] == LABELS
    assert [label[1] for label in story["labels"]] == list(range(FRAMES))
    assert story["error"] == "" and story["summary"]["restarts"] == 0
    assert len({frame.tobytes() for frame in frames}) > FRAMES // 2  # a world that moves


def test_live_frames_are_those_of_the_api(drive, model):
    labels = LABELS[:10]
    takes = [[labels, [PROMPTS[0]] * 10]]
    frames, _ = drive(model, engine=None, takes=takes, prompt=PROMPTS[0], frames=40)
    api = the_matrix(streaming_model_path=model)
    streamed = [latent for _, latent in api.stream(PROMPTS[0], labels, seed=7)]
    assert (frames == np.concatenate(streamed)).all()


def test_the_full_decoder_waits_for_its_second_latent_and_survives_too(drive, tmp_path):
    model = write_checkpoint(tmp_path / "stage4", full_vae=True)
    labels = LABELS[:12]
    spec = {"takes": [[labels, [PROMPTS[0]] * 12]], "prompt": PROMPTS[0], "frames": 48}
    frames, story = drive(model, engine=None, faults={"24": ["kill", "vae 0"]}, **spec)
    assert [label[1] for label in story["labels"]] == list(range(48)) and story["summary"][
        "restarts"
    ] == 1
    api = the_matrix(streaming_model_path=model)
    streamed = np.concatenate([latent for _, latent in api.stream(PROMPTS[0], labels, seed=7)])
    assert (frames == streamed).all()


def test_two_ranks_and_two_shards_make_the_frames_of_one(two_and_two, direct):
    frames, story = two_and_two
    difference = np.abs(frames.astype(int) - direct)
    assert difference.max() <= 1 and (difference > 0).mean() < 0.01
    assert sorted(name for name in story["summary"]["peak_rss_mb"] if name != "launcher") == [
        *("dit 0", "dit 1", "text 0", "vae 0", "vae 1")
    ]


def test_killed_workers_are_replaced_and_not_a_byte_differs(drive, model, undisturbed):
    faults = {"16": ["kill", "vae 0"], "40": ["kill", "dit 0"]}
    frames, story = drive(model, faults=faults)
    assert (frames == undisturbed[0]).all()
    assert [label[1] for label in story["labels"]] == list(range(FRAMES))
    assert story["summary"]["restarts"] == 2
    notices = [event["message"] for event in story["events"] if event.get("stage") == "rebuilding"]
    assert len(notices) == 2 and "vae" in notices[0] and "dit" in notices[1]


def test_one_killed_rank_of_two_takes_its_gang_with_it_and_the_world_goes_on(
    drive, model, two_and_two
):
    frames, story = drive(model, dit=2, vae=2, frames=40, faults={"16": ["kill", "dit 1"]})
    assert (frames == two_and_two[0][:40]).all() and story["summary"]["restarts"] == 1


def test_a_stopped_worker_is_found_and_replaced(drive, model, undisturbed):
    frames, story = drive(model, faults={"16": ["stop", "dit 0"]})
    assert (frames == undisturbed[0]).all()
    assert story["summary"]["restarts"] == 1 and story["gap"] < 60


def test_three_failures_end_the_run_with_the_reason(drive, tmp_path):
    broken = write_checkpoint(tmp_path / "stage4")
    _, story = drive(broken, truncate=10, faults={"16": ["kill", "vae 0"]}, frames=200)
    assert "3 failures within 60 s" in story["error"]
    assert "diffusion_pytorch_model.safetensors" in story["error"] and "\n" not in story["error"]


def test_a_held_label_reaches_the_screen_within_two_latents(drive, model):
    _, story = drive(model, takes=[], holds={"18": "DL", "38": "DR"}, frames=60)
    receipts = [event for event in story["events"] if event["kind"] == "receipt"]
    assert [event["label"] for event in receipts] == ["DL", "DR"]
    assert all(
        0 < event["frame"] - pressed <= 12
        for event, pressed in zip(receipts, (18, 38), strict=True)
    )
    shown = [label[2] for label in story["labels"]]
    assert shown[receipts[0]["frame"]] == "DL" and shown[receipts[0]["frame"] - 1] == "D"
    assert story["summary"]["control_to_frame_ms"]["p50"] > 0


def test_keys_prompt_pause_and_reset_by_hand_are_on_the_tape_that_makes_the_same_frames(
    drive, model
):
    acts = {"10": ["reset", 9], "22": ["prompt", PROMPTS[1]], "40": ["pause", 0.5]}
    frames, story = drive(model, takes=[], holds={"14": "DL", "28": "DR"}, acts=acts, frames=70)
    assert [label[:2] for label in story["labels"]] == [
        *([0, n] for n in range(10)),
        *([1, n] for n in range(60)),
    ]
    take = story["take"]
    assert take["seed"] == 9 and {"D", "DL", "DR"} == set(take["labels"])
    assert list(dict.fromkeys(take["prompts"])) == [PROMPTS[2], PROMPTS[1]]
    assert (frames[10:] == directly(model, 9, take["labels"], take["prompts"])[:60]).all()
    told = [
        (event["text"], event["state"]) for event in story["events"] if event["kind"] == "prompt"
    ]
    assert told[-2:] == [(PROMPTS[1], "pending"), (PROMPTS[1], "shown")]
    assert [event["paused"] for event in story["events"] if event["kind"] == "paused"] == [
        False,
        True,
        False,
    ]
    assert story["summary"]["restarts"] == 0


def test_a_killed_text_worker_is_replaced_when_it_is_needed_and_the_world_does_not_stop(
    drive, model
):
    spec = {
        "faults": {"12": ["kill", "text 0"]},
        "acts": {"20": ["prompt", PROMPTS[1]]},
        "until": PROMPTS[1],
    }
    frames, story = drive(model, takes=[], frames=4000, **spec)
    prompts = [label[3] for label in story["labels"]]
    assert prompts[-1] == PROMPTS[1] and set(prompts[:-1]) == {PROMPTS[2]} and len(frames) > 20
    assert story["summary"]["restarts"] == 0 and story["error"] == ""


DOUBLES = {
    "both at once": [["kill", "dit 0"], ["kill", "vae 0"]],
    "one a second later": [["kill", "vae 0"], ["kill", "dit 0", 1.0]],
    "the replacement too": [["kill", "dit 0"], ["kill", "dit 0", 1.6], ["kill", "vae 0", 2.2]],
    "one hangs, one dies": [["stop", "vae 0"], ["kill", "dit 0", 0.3]],
}


ALWAYS = "the replacement too"  # the others only when there is time


@pytest.mark.parametrize(
    "name",
    [ALWAYS, *(pytest.param(name, marks=pytest.mark.soak) for name in DOUBLES if name != ALWAYS)],
)
def test_deaths_during_a_repair_make_it_longer_and_not_a_byte_differs(
    drive, model, undisturbed, name
):
    frames, story = drive(model, faults={"24": DOUBLES[name]})
    assert story["error"] == "" and (frames == undisturbed[0]).all()
    assert [label[1] for label in story["labels"]] == list(range(FRAMES))
    assert 1 <= story["summary"]["restarts"] <= 2


def test_the_newest_of_two_resets_wins_while_the_prompts_of_the_first_are_read(drive, model):
    """A replay of many new prompts is overtaken by a reset, at several moments of its reading."""
    acts = {
        str(8 * turn): [
            *("overtake", ["D"] * 60, [f"road {turn} {each}" for each in range(60)]),
            *(0.01 * turn, 50 + turn),
        ]
        for turn in range(1, 11)
    }
    frames, story = drive(model, takes=[], acts=acts, frames=100)
    assert len(frames) == 100 and story["take"]["seed"] == 60 and story["error"] == ""
    assert (frames[-12:] == directly(model, 60, ["D"] * 5, [PROMPTS[2]] * 5)[-12:]).all() or (
        story["labels"][-1][1] > 11
    )


def test_of_a_flood_of_resets_the_last_one_counts(drive, model):
    frames, story = drive(model, takes=[], acts={"12": ["flood", 2000]}, frames=36)
    assert story["take"]["seed"] == 1999 and story["gap"] < 15
    assert (frames[12:] == directly(model, 1999, ["D"] * 6, [PROMPTS[2]] * 6)).all()


def goes_on(drive, model, state, direct, cut, **spec):
    """Kill the launcher when it has shown so many frames, go on in another, and compare."""
    drive(model, state=str(state), acts={str(cut): ["slay", 0]}, killed=True, **spec)
    frames, story = drive(model, state=str(state), go_on="", takes=[], prompt=None, frames=80)
    first, take = story["labels"][0][1], story["take"]
    made = next(n for n, label in enumerate([*take["labels"], "X"]) if label != [*LABELS, ""][n])
    assert cut - 9 < first <= cut and first % 4 == 0, "where it was shown last"
    assert made >= cut // 4 and take["labels"][made:] == ["D"] * (len(take["labels"]) - made)
    assert [label[1] for label in story["labels"]] == list(range(first, first + 80))
    whole = directly(model, 7, take["labels"], take["prompts"])
    assert (whole[: 4 * made] == direct[: 4 * made]).all()
    assert (frames == whole[first : first + 80]).all() and story["error"] == ""


def test_a_killed_launcher_is_gone_on_from(drive, model, direct, tmp_path):
    goes_on(drive, model, tmp_path / "state", direct, 46)


@pytest.mark.soak
def test_a_minute_is_there_again_after_a_rest_and_in_another_launcher(drive, model, tmp_path):
    """Back to a moment between two snapshots, both times; every frame is that of the drive."""
    labels, texts = [*LABELS, *LABELS], [*TEXTS, *TEXTS]
    whole, state = directly(model, 7, labels, texts), str(tmp_path / "state")
    acts = {"140": ["rest", 1.0], "180": ["rewind", 18], "250": ["slay", 0]}
    spec = {"takes": [[labels, texts]], "state": state, "frames": 400}
    drive(model, acts=acts, killed=True, **spec)
    spec |= {"takes": [], "prompt": None, "go_on": "", "frames": 60}
    frames, story = drive(model, acts={"12": ["rewind", 18]}, **spec)
    count = next(n for n, label in enumerate(story["labels"]) if label[1] == 72)
    assert [label[1] for label in story["labels"][count:]] == list(range(72, 72 + 60 - count))
    take = story["take"]
    assert take["labels"][:18] == labels[:18]
    again_there = directly(model, 7, take["labels"], take["prompts"])
    assert (again_there[:72] == whole[:72]).all()
    assert (frames[count:] == again_there[72 : 72 + 60 - count]).all()


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(20))
def test_a_launcher_killed_at_any_moment_is_gone_on_from(drive, model, direct, tmp_path, seed):
    cut = random.Random(seed).randrange(1, FRAMES)
    goes_on(drive, model, tmp_path / "state", direct, cut)


def test_a_stopped_text_worker_is_replaced_and_the_picture_does_not_wait(drive, model):
    spec = {"faults": {"12": ["stop", "text 0"]}, "acts": {"20": ["prompt", PROMPTS[1]]}}
    frames, story = drive(model, takes=[], frames=4000, until=PROMPTS[1], **spec)
    assert story["labels"][-1][3] == PROMPTS[1] and story["summary"]["restarts"] == 0
    # the repair takes seconds, through which the picture goes on
    assert story["gap"] < 2 and len(frames) > 60


@pytest.mark.soak
def test_a_replay_with_new_prompts_outlives_a_stopped_text_worker(drive, model):
    texts = ["a road nobody has read of yet"] * 4
    spec = {"faults": {"12": ["stop", "text 0"]}, "acts": {"16": ["replay", ["D"] * 4, texts]}}
    frames, story = drive(model, takes=[], frames=4000, until=texts[0], **spec)
    assert story["labels"][-1][3] == texts[0] and story["error"] == ""


# -- several worlds on one replica -----------------------------------------------------------------


@pytest.fixture(scope="module")
def many(head, model, tmp_path_factory):
    """Run worlds on one replica, in their own launcher: ([frames], story)."""

    def run(*worlds, **spec):
        folder = tmp_path_factory.mktemp("many")
        spec = {"model": str(model), "address": head.address, "engine": ENGINE, **spec}
        (folder / "spec.json").write_text(json.dumps({**spec, "worlds": worlds}))
        command = [sys.executable, "-m", "tests.many", folder / "spec.json", folder / "out.npz"]
        environment = os.environ | head.environment
        killed = spec.get("killed", False)
        done = subprocess.run(
            command, env=environment, timeout=HANGS, capture_output=True, text=True
        )
        assert done.returncode == (-signal.SIGKILL if killed else 0), done.stderr[-2000:]
        if killed:
            return np.zeros(0), {}
        out = np.load(folder / "out.npz")
        frames = [out[f"frames_{number}"] for number in range(len(worlds))]
        return frames, json.loads(str(out["story"]))

    return run


def world(seed, first="D", **extra):
    labels = [first, *LABELS[1:]]
    return {"seed": seed, "labels": labels, "prompts": TEXTS, **extra}


def alone(model, spec):
    return directly(model, spec["seed"], spec["labels"], spec["prompts"])


def test_worlds_of_one_replica_are_those_that_run_alone(many, model, undisturbed):
    """One ends early, one floods, one rests and wakes; nobody sees anything of the others."""
    first = world(7)
    worlds = [first, world(8, "DL"), world(9, "DR", end=30), world(10, rests=[20, 2.0])]
    frames, story = many(*worlds, world(11, flood=8))
    assert (frames[0] == undisturbed[0]).all()
    assert (frames[1] == alone(model, worlds[1])).all()
    assert (frames[2] == alone(model, worlds[2])[: len(frames[2])]).all() and len(frames[2]) == 30
    assert (frames[3] == alone(model, worlds[3])).all()
    assert story["resets"][4] > 100 and story["restarts"] == [0] * 5
    assert max(story["gaps"][:2]) < 2.0


def test_a_fault_is_mended_once_for_all_and_a_world_that_cannot_go_on_ends_alone(
    many, model, undisturbed
):
    """What makes nothing but NaN is refused twice; the others are late by a repair, and not a byte
    differs."""
    worlds = [world(7), world(8, "DL"), world(9, "DR", rests=[12, 20.0]), world(10, poison=52)]
    frames, story = many(*worlds, faults=[[24, "kill", "dit 0", 0]])
    assert (frames[0] == undisturbed[0]).all()
    assert (frames[1] == alone(model, worlds[1])).all()
    assert (frames[2] == alone(model, worlds[2])).all()
    assert story["restarts"][:3] == [2, 2, 2] and story["errors"][:3] == [""] * 3
    assert "this world cannot go on" in story["errors"][3] and "NaN" in story["errors"][3]


@pytest.mark.parametrize("shards", [1, pytest.param(2, marks=pytest.mark.soak)])
def test_who_goes_back_or_opens_a_file_sees_what_he_would_have_seen(
    many, model, tmp_path, shards, undisturbed
):
    """Back to a kept moment and to one between, before and behind a change of the prompt; also with
    files that other shards wrote, of a kept moment and of some between."""
    files = {latent: str(tmp_path / f"{latent}.world") for latent in (3, 11, 16)}
    worlds = [world(7, back=[14, 8], save=files), world(7, back=[13, 3]), world(7, back=[17, 11])]
    frames, _ = many(*worlds, vae=shards)
    whole = undisturbed[0]
    for each, seen in zip(worlds, frames, strict=True):
        here, there = (4 * latent for latent in each["back"])
        assert (seen == np.concatenate([whole[:here], whole[there:]])).all()
    opened = [world(7, back=None, open=path) for path in files.values()]
    frames, _ = many(*opened, vae=3 - shards)
    for latent, seen in zip(files, frames, strict=True):
        assert (seen == whole[4 * latent :]).all()


@pytest.mark.parametrize("full", [False, pytest.param(True, marks=pytest.mark.soak)])
def test_a_drive_that_goes_back_by_hand_is_the_one_its_log_tells_of(drive, tmp_path, full):
    """Through a change of the prompt, late labels, either decoder; both groups killed right after."""
    model = write_checkpoint(tmp_path / "stage4", late_labels=1, full_vae=full)
    engine = None if full else ENGINE
    spec = {
        "acts": {"14": ["prompt", PROMPTS[1]], "50": ["rewind", 6], "70": ["rewind", 2]},
        "holds": {"4": "DL", "40": "DR"},
        "faults": {"50": [["kill", "dit 0"], ["kill", "vae 0"]]},
        "log": str(tmp_path / "log"),
    }
    frames, story = drive(model, engine=engine, takes=[], prompt=PROMPTS[0], frames=92, **spec)
    checkpoint = Checkpoint.open(model)
    info = WorldInfo("tiny", checkpoint.model_hash, checkpoint.height, checkpoint.width)
    takes = read_control_log(tmp_path / "log", info)
    assert [take.first for take in takes] == [0, 6, 2] and story["summary"]["restarts"] >= 1
    assert len({take.prompts[-1] for take in takes}) == 2
    parts = Parts(replace(checkpoint, engine=engine), CPU)
    dreamed = [again(parts, take)[4 * take.first :] for take in takes]
    assert (np.concatenate(dreamed)[: len(frames)] == frames).all()


@pytest.mark.soak
def test_worlds_of_two_replicas_are_those_of_one(many, model, undisturbed):
    """Each replica has its own workers; one that dies on the second is mended like any other."""
    worlds = [world(7), world(8, "DL"), world(9, "DR")]
    frames, story = many(*worlds, replicas=2, faults=[[24, "kill", "1.vae 0", 0]])
    assert (frames[0] == undisturbed[0]).all() and story["restarts"] == [1, 1, 1]
    for spec, seen in zip(worlds[1:], frames[1:], strict=True):
        assert (seen == alone(model, spec)).all()


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100))
def test_seeded_faults_of_any_worker_leave_every_world_as_it_would_be(many, model, seed):
    """One fault or two, the second while the first is mended or after it; one world or three."""
    faults, count = worker_faults(seed)
    worlds = [world(7 + number) for number in range(count)]
    frames, story = many(*worlds, faults=faults)
    for spec, seen in zip(worlds, frames, strict=True):
        assert (seen == alone(model, spec)).all()
    print(f"faults {faults}: pause {max(story['gaps']):.1f} s, {len(worlds)} worlds equal")
