"""A drive that was cut off goes on from its journal with the frames of the undisturbed one, wherever
it was cut; and nothing that does not belong to it is taken for it."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from actors.journal.drive import Drive, read_drive, read_log
from actors.journal.records import (
    LOG,
    Asked,
    Began,
    Ended,
    Head,
    Made,
    Recorded,
    Shown,
    write_record,
)
from actors.journal.scribe import EVERY, KEPT, LONG, Scribe, snapshots
from actors.journal.story import Story
from actors.moments import commit_of, snapshot_of
from configs.errors import UserError
from models.checkpoint import Checkpoint
from models.controls import write_signal
from models.live_world import LiveWorld
from models.parts import Parts
from models.snapshot import REPLAY
from tests.tiny_checkpoint import PROMPTS, write_checkpoint

CPU = torch.device("cpu")
LABELS = ["D", "DL", "DL", "DR", "B", "N", "D", "DR", "BL", "DL", "D", "NR"] * 8
STAGE3 = {"window_size": 2, "noise_groups": 2, "inference_steps": 6, "solver": "dpm"}
KINDS: dict[str, dict[str, Any]] = {
    "late labels, tiny decoder": {"late_labels": 2},
    "full decoder": {"full_vae": True},
    "stage 3": {"late_labels": 1, "stage3": True},
}
UNTIL = 44
TURNS = {6: PROMPTS[1], 22: PROMPTS[2], 34: PROMPTS[0]}  # prompts that change on the way


@pytest.fixture(scope="module", params=list(KINDS))
def parts(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Parts:
    options = dict(KINDS[request.param])
    stage3 = options.pop("stage3", False)
    folder = tmp_path_factory.mktemp("weights") / "stage4"
    write_checkpoint(folder, **options)
    if stage3:
        (folder / "streaming.json").write_text(json.dumps({**STAGE3, "guidance_scale": 2.0}))
    return Parts(Checkpoint.open(folder), CPU, "float32")


@pytest.fixture(scope="module")
def tiny(model: Path) -> Parts:
    return Parts(Checkpoint.open(model), CPU, "float32")


class Driven:
    """A world that is driven and kept, latent by latent, as a session keeps it."""

    def __init__(self, parts: Parts, folder: Path) -> None:
        folder.mkdir()
        self.parts, self.frames = parts, dict[int, np.ndarray]()
        checkpoint = parts.checkpoint
        head = Head(checkpoint.name, checkpoint.world_hash, parts.engine, 1.75e9)
        self.scribe = Scribe(folder, head, checkpoint, Story())
        self.scribe.open()
        self.stream = -1

    def begin(self, seed: int) -> None:
        self.stream += 1
        self.live, self.frames = LiveWorld.begin(self.parts, PROMPTS[0], seed), {}
        self.scribe.write(Began(self.stream, 0, seed, PROMPTS[0]))

    def steps(self, until: int) -> Iterator[None]:
        """One step at a time; each is shown when the next one is made."""
        window = self.parts.checkpoint.streaming.window_size
        while (index := self.live.index) < until:
            if index in TURNS and self.live.prompt != TURNS[index]:
                self.scribe.write(Asked(TURNS[index]))
                self.live.set_prompt(TURNS[index])
            labels = LABELS[index : index + window]
            self.frames[index] = self.live.step(labels)
            self.scribe.write(Made(index, write_signal(labels), TURNS.get(index, "")))
            if (index + window) % EVERY == 0:
                self.scribe.save(commit_of(self.live.snapshot()))
            if index:
                self.scribe.write(Shown(index - window))
            yield


def go_on(parts: Parts, drive: Drive, until: int = UNTIL) -> dict[int, np.ndarray]:
    """Frames by latent: what was made again and is shown again, then on with LABELS."""
    window = parts.checkpoint.streaming.window_size
    prompts = dict(drive.story.prompts)
    if drive.snapshot is None:
        live = LiveWorld.begin(parts, prompts[0], drive.story.seed)
    else:
        live = LiveWorld.open(parts, drive.snapshot)
    frames = {}
    while (index := live.index) < until:
        known = index < drive.story.next
        text = prompts.get(index) if known else TURNS.get(index)
        if text is not None and text != live.prompt:
            live.set_prompt(text)
        labels = drive.story.labels if known else LABELS
        made = live.step(labels[index : index + window])
        if index >= drive.shown:
            frames[index] = made
    return frames


def test_what_follows_a_cut_equals_the_undisturbed_drive(parts: Parts, tmp_path: Path) -> None:
    window = parts.checkpoint.streaming.window_size
    driven = Driven(parts, tmp_path / "drive")
    driven.begin(7)
    cuts = [cut // window * window for cut in (2, 17, 23, 32, 33, 35)]
    for _ in driven.steps(UNTIL):
        if driven.live.index in cuts:
            shutil.copytree(tmp_path / "drive", tmp_path / str(driven.live.index))
    for cut in cuts:
        drive = read_drive(tmp_path / str(cut), parts.checkpoint)
        assert drive.story.next == cut and drive.story.labels == LABELS[:cut]
        assert max(0, cut - 3 * window) <= drive.shown <= cut and drive.index <= drive.shown
        assert drive.shown - drive.index <= EVERY + 2 * window, "little is made again"
        frames = go_on(parts, drive, cut + 6)
        assert min(frames) == drive.shown and max(frames) == cut + 6 - window
        assert all(np.array_equal(frames[index], driven.frames[index]) for index in frames)


def test_a_moment_is_a_snapshot_and_back(parts: Parts, tmp_path: Path) -> None:
    """A decoder's memory is rebuilt from the latents, which fit any decoder."""
    driven = Driven(parts, tmp_path / "drive")
    driven.begin(7)
    for _ in driven.steps(20):
        pass
    live = driven.live
    whole = live.snapshot()
    snapshot = snapshot_of(commit_of(whole), live.labels, whole.prompts, parts.checkpoint)
    assert whole.memory and not snapshot.memory and len(snapshot.latents) == 20
    with pytest.raises(UserError, match="the latents before it are missing"):
        commit_of(replace(whole, latents=()))
    file = tmp_path / "a.world"
    snapshot.save(file, parts.checkpoint, parts.engine, private=True)
    assert file.stat().st_mode & 0o777 == 0o600
    opened = LiveWorld.open(parts, file)
    window = parts.checkpoint.streaming.window_size
    for index in range(20, 26, window):
        labels = LABELS[index : index + window]
        assert np.array_equal(opened.step(labels), live.step(labels))


def test_a_cut_at_any_byte_loses_at_most_the_latent_that_was_being_made(
    tiny: Parts, tmp_path: Path
) -> None:
    driven = Driven(tiny, tmp_path / "drive")
    driven.begin(3)
    for _ in driven.steps(20):
        pass
    data = (tmp_path / "drive" / LOG).read_bytes()
    after = {}
    for cut in range(data.index(b"began") + 100, len(data), 11):
        (tmp_path / "drive" / LOG).write_bytes(data[:cut])
        whole = sum(b'"made"' in line for line in data[:cut].split(b"\n")[:-1])
        if not whole:
            continue
        drive = read_drive(tmp_path / "drive", tiny.checkpoint)
        assert drive.story.next == whole and drive.shown >= whole - 3
        after[whole] = drive
    frames = go_on(tiny, after[19])
    assert all(np.array_equal(frames[index], driven.frames[index]) for index in range(18, 20))


def test_earlier_snapshots_are_moments_to_go_back_to(parts: Parts, tmp_path: Path) -> None:
    driven = Driven(parts, tmp_path / "drive")
    driven.begin(7)
    for _ in driven.steps(52):
        pass
    drive = read_drive(tmp_path / "drive", parts.checkpoint)
    assert [each.index for each in drive.past] == [16, 32] and drive.index == 48
    earlier = replace(drive, snapshot=drive.past[0], past=(), shown=16)
    frames = go_on(parts, earlier, 40)
    assert all(np.array_equal(frames[index], driven.frames[index]) for index in frames)
    (tmp_path / "drive" / "0-16.world").write_bytes(b"torn")
    assert [each.index for each in read_drive(tmp_path / "drive", parts.checkpoint).past] == [32]


def test_across_a_reset_and_a_rewind(tiny: Parts, tmp_path: Path) -> None:
    driven = Driven(tiny, tmp_path / "drive")
    driven.begin(7)
    for _ in driven.steps(40):
        pass
    driven.begin(9)
    for _ in driven.steps(38):
        pass
    assert snapshots(tmp_path / "drive") == [(1, 16), (1, 32)]
    driven.live.rewind(18)
    driven.stream, there = 2, driven.live.snapshot()
    story = Story(2, 0, 9, list(there.labels), list(there.prompts))
    driven.scribe.turn_to(story, commit_of(there))
    assert snapshots(tmp_path / "drive") == [(2, 20)]
    assert read_log(tmp_path / "drive")[1].first == 20
    for _ in driven.steps(UNTIL):
        pass
    drive = read_drive(tmp_path / "drive", tiny.checkpoint)
    assert (drive.story.seed, drive.index, drive.shown) == (9, 32, 42)
    assert drive.take.prompts == tuple(
        [text for start, text in [(0, PROMPTS[0]), *TURNS.items()] if start <= at][-1]
        for at in range(UNTIL)
    )
    frames = go_on(tiny, drive)
    assert all(np.array_equal(frames[index], driven.frames[index]) for index in frames)


def test_a_broken_snapshot_is_stepped_over(tiny: Parts, tmp_path: Path) -> None:
    driven = Driven(tiny, tmp_path / "drive")
    driven.begin(7)
    for _ in driven.steps(UNTIL):
        pass
    newest = tmp_path / "drive" / "0-32.world"
    newest.write_bytes(newest.read_bytes()[:-9])
    drive = read_drive(tmp_path / "drive", tiny.checkpoint)
    assert drive.index == 16
    frames = go_on(tiny, drive)
    assert all(np.array_equal(frames[index], driven.frames[index]) for index in frames)
    shutil.copy(tmp_path / "drive" / "0-16.world", newest)
    assert read_drive(tmp_path / "drive", tiny.checkpoint).index == 16
    (tmp_path / "drive" / "0-16.world").unlink()
    assert read_drive(tmp_path / "drive", tiny.checkpoint).index == 0, "from the very beginning"


def test_it_stays_small_and_a_minute_can_be_gone_back(
    tiny: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.journal.scribe.LONG", 4000)
    driven = Driven(tiny, tmp_path / "drive")
    driven.begin(7)
    for _ in driven.steps(32):
        pass
    commit = commit_of(driven.live.snapshot())
    for index in range(32, 480):  # as far as files go; nothing is computed
        driven.scribe.write(Made(index, "D", PROMPTS[index // 100 % 3]))
        if (index + 1) % EVERY == 0:
            assert commit.state is not None
            state = replace(commit.state, index=index + 1)
            history = (2 * commit.history)[-REPLAY:][-index - 1 :]
            driven.scribe.save(replace(commit, index=index + 1, state=state, history=history))
        driven.scribe.write(Shown(index - 1))
    kept = snapshots(tmp_path / "drive")
    assert len(kept) == KEPT and kept[-1] == (0, 480) and kept[0][1] <= 480 - 240
    assert (tmp_path / "drive" / LOG).stat().st_size < 4000 + 200
    head, short = read_log(tmp_path / "drive")
    assert short.first > 0
    drive = read_drive(tmp_path / "drive", tiny.checkpoint)
    assert drive.story.labels == LABELS[:32] + ["D"] * 448 and drive.story.first == 0
    assert list(drive.take.prompts[100:]) == [PROMPTS[at // 100 % 3] for at in range(100, 480)]
    assert drive.take.prompts[:32] == tuple(
        [text for start, text in [(0, PROMPTS[0]), *TURNS.items()] if start <= at][-1]
        for at in range(32)
    )
    assert LONG == 1 << 20


@pytest.fixture
def folder(tiny: Parts, tmp_path: Path) -> Path:
    driven = Driven(tiny, tmp_path / "drive")
    driven.begin(7)
    for _ in driven.steps(20):
        pass
    driven.scribe.write(Recorded("/a/drive.mp4"))
    driven.scribe.write(Asked("snow"))
    return tmp_path / "drive"


def test_what_is_found(folder: Path, tiny: Parts) -> None:
    drive = read_drive(folder, tiny.checkpoint)
    assert (drive.story.recording, drive.story.asked) == ("/a/drive.mp4", "snow")
    assert drive.head.engine == tiny.engine and not drive.story.ended
    modes = {path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert modes == {0o600}


def test_other_weights_and_strangers_are_one_line(
    folder: Path, tiny: Parts, tmp_path: Path
) -> None:
    other = Checkpoint.open(write_checkpoint(tmp_path / "other", seed=1))
    log = folder / LOG
    whole = log.read_bytes()
    lines = whole.splitlines(keepends=True)
    for data, message in {
        whole: "choose its weights with MODEL_PATH",
        b"": "not the log",
        b"hello\n": "not the log",
        b"".join(lines[:1]): "nothing was made",
        b"".join([*lines[:4], *lines[6:]]): "expected",
        whole + write_record(Ended()) + write_record(Shown(3)): "after the end",
        whole + b"junk" + write_record(Shown(3)) * 2 + b"\n" + write_record(Shown(3)): "damaged",
    }.items():
        log.write_bytes(data)
        with pytest.raises(UserError, match=message) as error:
            read_drive(folder, other if data == whole else tiny.checkpoint)
        assert "\n" not in str(error.value) and "journal drive" in str(error.value)
    log.unlink()
    log.mkdir()
    with pytest.raises(UserError, match="expected a file"):
        read_drive(folder, tiny.checkpoint)
