"""A world in the hand: what follows a snapshot, a rewind or a branch equals the undisturbed
stream, byte for byte; through files, both solvers, prompt changes, late labels, both decoders."""

import copy
import json
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from configs.errors import UserError
from models import live_world
from models.checkpoint import Checkpoint
from models.device import threads
from models.live_world import KEPT_EVERY, LiveWorld
from models.offline import stream_frames
from models.parts import Parts
from models.snapshot import REWIND
from tests.tiny_checkpoint import HEIGHT, PROMPTS, WIDTH, write_checkpoint

CPU = torch.device("cpu")
LABELS = ["D", "DL", "DL", "DR", "B", "N", "D", "DR", "BL", "DL", "D", "NR"] * 8
STAGE3 = {"window_size": 2, "noise_groups": 2, "inference_steps": 6, "solver": "dpm"}
KINDS = {
    "late labels, tiny decoder": {"late_labels": 2},
    "late labels, patches": {"late_labels": 2, "patch_size": 2},
    "four groups, full decoder": {"noise_groups": 4, "late_labels": 1, "full_vae": True},
    "stage 3, tiny decoder": {"late_labels": 1, "stage3": True},
    "stage 3, full decoder": {"late_labels": 1, "stage3": True, "full_vae": True},
}


def parts_of(folder: Path, stage3: bool = False, **options: int) -> Parts:
    write_checkpoint(folder, **options)  # type: ignore[arg-type]
    if stage3:
        (folder / "streaming.json").write_text(json.dumps({**STAGE3, "guidance_scale": 2.0}))
    return Parts(Checkpoint.open(folder), CPU, "float32")


@pytest.fixture(scope="module", params=list(KINDS))
def parts(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Parts:
    folder = tmp_path_factory.mktemp("weights") / "stage4"
    return parts_of(folder, **KINDS[request.param])  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return parts_of(tmp_path_factory.mktemp("weights") / "stage4")


def drive(live: LiveWorld, until: int) -> list[np.ndarray]:
    """Step to latent ``until`` with LABELS; new prompts come before latents 4 and 10."""
    window, frames = live.parts.checkpoint.streaming.window_size, []
    while live.index < until:
        if live.index in (4, 10) and len(live.snapshot().prompts) < 2 + (live.index > 4):
            live.set_prompt(PROMPTS[1 if live.index == 4 else 2])
        frames.append(live.step(LABELS[live.index : live.index + window]))
    return frames


def same(ours: list[np.ndarray], theirs: list[np.ndarray]) -> bool:
    return len(ours) == len(theirs) and all(map(np.array_equal, ours, theirs))


def test_it_is_the_stream(parts: Parts) -> None:
    live = LiveWorld.begin(parts, PROMPTS[0], 7)
    window = parts.checkpoint.streaming.window_size
    frames = np.concatenate([live.step(LABELS[k : k + window]) for k in range(0, 6, window)])
    with threads(1):
        world = parts.world()
        world.reset(7, PROMPTS[0], parts.checkpoint.start_latents(PROMPTS[0]))
        streamed = [pictures for _, pictures in stream_frames(parts, world, LABELS[:6])]
    assert np.array_equal(frames, np.concatenate(streamed))
    assert live.labels == tuple(LABELS[:6]) and live.prompt == PROMPTS[0]


@pytest.mark.parametrize("at", [0, 2, 4, 8, 14])
def test_what_follows_a_file_equals_the_undisturbed_stream(
    parts: Parts, tmp_path: Path, at: int
) -> None:
    undisturbed = LiveWorld.begin(parts, PROMPTS[0], 7)
    before, after = drive(undisturbed, at), drive(undisturbed, 20)
    live = LiveWorld.begin(parts, PROMPTS[0], 7)
    assert same(drive(live, at), before)
    file = live.save(tmp_path / "a.world")
    opened = LiveWorld.open(parts, file)
    assert opened.index == at and opened.prompt == live.prompt and opened.labels == live.labels
    assert np.array_equal(opened.frames, live.frames)
    assert same(drive(opened, 20), after)
    again = opened.save(tmp_path / "b.world")
    assert LiveWorld.open(parts, again).labels == undisturbed.labels
    assert file.read_bytes() == live.save(tmp_path / "a.world", overwrite=True).read_bytes()


@pytest.mark.parametrize("full_vae", [False, True])
def test_a_large_memory_is_rebuilt_from_latents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full_vae: bool
) -> None:
    monkeypatch.setattr(live_world, "MEMORY_BYTES", 0)
    parts = parts_of(tmp_path / "stage4", full_vae=full_vae)
    for at in (1, 6, 80):  # 80: more than are kept
        live = LiveWorld.begin(parts, PROMPTS[0], 3)
        drive(live, at)
        opened = LiveWorld.open(parts, live.save(tmp_path / f"{at}.world"))
        assert len(opened.snapshot().latents) == min(at, 64) and not opened.snapshot().memory
        assert same(drive(opened, at + 4), drive(live, at + 4))


def test_what_follows_a_rewind_equals_the_undisturbed_stream(parts: Parts) -> None:
    live = LiveWorld.begin(parts, PROMPTS[0], 7)
    frames = drive(live, 24)
    for back in (2, 6, 0, 12, 4):
        target = live.index - back
        window = parts.checkpoint.streaming.window_size
        there = live.rewind(back)
        assert live.index == target and live.labels == tuple(LABELS[:target])
        assert not target or np.array_equal(there, frames[target // window - 1])
        assert same(drive(live, 24), frames[target // window :])
    live.rewind(live.rewindable)
    assert live.index == 0 and same(drive(live, 24), frames)


def test_a_minute_can_always_be_gone_back(tiny: Parts) -> None:
    live = LiveWorld.begin(tiny, PROMPTS[0], 7)
    labels = [("D", "DL")[k // 7 % 2] for k in range(REWIND + 40)]
    kept = []
    for k, label in enumerate(labels):
        kept.append(live.step(label)[-1])
        assert live.rewindable >= min(k + 1, REWIND)
    assert live.rewindable < REWIND + 3 * KEPT_EVERY, "memory is bounded"
    live.rewind(REWIND)
    assert np.array_equal(live.frames[-1], kept[39])
    with pytest.raises(UserError, match="rewind: latents"):
        live.rewind(live.rewindable + 1)


def test_branches_have_futures_of_their_own_and_share_the_weights(parts: Parts) -> None:
    live = LiveWorld.begin(parts, PROMPTS[0], 7)
    drive(live, 6)
    left, right, third = live.branch(), copy.deepcopy(live), copy.copy(live)
    turned = [left.step("DL") for _ in range(6)], [right.step("DR") for _ in range(6)]
    assert not same(*turned)
    assert left._world.transformer is live._world.transformer is right._world.transformer
    assert same(drive(third, 16), drive(live, 16))
    assert left.rewind(left.index - 6).shape == live.frames.shape and same(
        [left.step("DL") for _ in range(6)], turned[0]
    )


def test_a_moment_can_be_gone_back_to_again_and_again(parts: Parts) -> None:
    live, other = (LiveWorld.begin(parts, PROMPTS[0], seed) for seed in (7, 8))
    drive(live, 6)
    moment = live.snapshot()
    after = drive(live, 12)
    for world in (live, other, live):
        world.restore(moment)
        assert world.index == 6 and world.rewindable == 0
        assert np.array_equal(world.frames, moment.frames)
        assert same(drive(world, 12), after)
    kind = parts.checkpoint.streaming
    larger = LiveWorld(parts, parts.world(kind, height=2 * parts.checkpoint.height))
    with pytest.raises(UserError, match="another size"):
        larger.restore(moment)


def test_a_label_is_held_for_a_whole_step(tmp_path: Path) -> None:
    parts = parts_of(tmp_path / "stage4", stage3=True)
    held, given = (LiveWorld.begin(parts, PROMPTS[0], 1) for _ in range(2))
    assert np.array_equal(held.step("DL"), given.step(["DL", "DL"]))
    assert held.frames.shape == (8, HEIGHT, WIDTH, 3)
    with pytest.raises(UserError, match="multiple of 2"):
        held.rewind(1)
    with pytest.raises(UserError, match="takes 2 labels"):
        held.step(["D"])
    with pytest.raises(UserError, match="unknown control label"):
        held.step("X")
    assert held.index == 2 and held.labels == ("DL", "DL")
    assert same([held.step("D")], [given.step("D")])


def test_another_engine_is_said(
    tiny: Parts, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    live = LiveWorld.begin(tiny, PROMPTS[0], 1)
    file = tmp_path / "a.world"
    live.snapshot().save(file, tiny.checkpoint, "another engine")
    LiveWorld.open(tiny, file)
    assert "another engine" in caplog.text and "rounding" in caplog.text


def test_threads_that_share_a_world_take_turns(tiny: Parts) -> None:
    shared, alone = (LiveWorld.begin(tiny, PROMPTS[0], 5) for _ in range(2))

    def drive_on() -> None:
        for _ in range(12):
            shared.step("DL")

    drivers = [threading.Thread(target=drive_on) for _ in range(3)]
    for driver in drivers:
        driver.start()
    for driver in drivers:
        driver.join()
    for _ in range(36):
        alone.step("DL")
    assert shared.index == len(shared.labels) == 36
    np.testing.assert_array_equal(shared.frames, alone.frames)


def test_what_makes_no_sense_is_one_line(tiny: Parts, tmp_path: Path) -> None:
    live = LiveWorld.begin(tiny, PROMPTS[0], 5)
    for label in (None, 5):
        with pytest.raises(UserError, match="step: expected a control label"):
            live.step(label)  # type: ignore[arg-type]
    for path in (None, 5, b"a.world"):
        with pytest.raises(UserError, match="path: expected a file name"):
            live.save(path)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="at most 255 bytes"):
        live.save(tmp_path / ("x" * 300 + ".world"))
    assert live.save(tmp_path / ("世" * 80 + ".world")).is_file()  # 246 bytes
    for other in (None, live):
        with pytest.raises(UserError, match="restore: expected what snapshot"):
            live.restore(other)  # type: ignore[arg-type]
    broken = torch.full((1, *live.snapshot().state.latents.shape[1:]), torch.nan)
    with pytest.raises(UserError, match="NaN or infinite"):
        LiveWorld.begin(tiny, PROMPTS[0], 5, start=broken)
