"""What can go on from a state folder, and that its logs are read once."""

import os
from pathlib import Path

import pytest

from actors.journal.drive import read_log
from actors.journal.records import LOG, Began, Ended, Head, Made, write_record
from models.checkpoint import Checkpoint
from pipeline.host import Whose
from pipeline.keeping import past_drives as module
from pipeline.keeping.past_drives import PastDrives
from tests.test_pipeline_keeping_keeping import cut_off
from tests.tiny_checkpoint import write_checkpoint


def test_what_was_not_noted_in_is_not_read_again(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def reading(folder: Path):
        read.append(folder.name)
        return read_log(folder)

    monkeypatch.setattr(module, "read_log", reading)
    state = cut_off(tmp_path, model, world="0a1b", name="Ann")
    foreign = state.new()
    (foreign.folder / LOG).write_bytes(b"no log")
    foreign.leave()
    past = PastDrives(state, Checkpoint.open(model))
    (first,) = past.all()
    assert (first.whose, first.seconds, first.ended) == (Whose("0a1b", "Ann"), 1.5, False)
    assert past.all() == [first] and sorted(read) == sorted(state.names()), "once each"

    read.clear()
    log = tmp_path / first.journal / LOG
    with log.open("ab") as file:
        file.write(write_record(Made(6, "D*2", "")) + write_record(Ended()))
    (later,) = past.all()
    assert (later.seconds, later.ended, read) == (2.0, True, [first.journal])

    place = state.hold(first.journal)
    assert past.all() == [], "its session lives"
    place.remove()
    assert past.all() == []


def test_a_drive_of_other_weights_or_of_nothing_is_none(model: Path, tmp_path: Path) -> None:
    other = write_checkpoint(tmp_path / "other", seed=1)
    state = cut_off(tmp_path / "state", other)
    assert PastDrives(state, Checkpoint.open(model)).all() == []
    assert len(PastDrives(state, Checkpoint.open(other)).all()) == 1


def test_the_line_of_a_start_counts_those_that_would_go_on(model: Path, tmp_path: Path) -> None:
    """One was cut off before its first latent, another is of other weights."""
    checkpoint = Checkpoint.open(model)
    state = cut_off(tmp_path / "state", model, launcher="mine", world="first")
    cut_off(tmp_path / "state", model, launcher="mine", world="0a1b")
    other = write_checkpoint(tmp_path / "other", seed=1)
    cut_off(tmp_path / "state", other, launcher="mine", world="2c3d")
    place = state.new()
    head = Head(checkpoint.name, checkpoint.world_hash, "torch-fp32", 1.75e9, launcher="mine")
    log = place.folder / LOG
    log.write_bytes(write_record(head) + write_record(Began(0, 0, 7, "a road")))
    place.leave()
    (newest, *_) = [each.journal for each in PastDrives(state, checkpoint).all()]
    os.utime(state.path / newest / LOG, (2e9,) * 2)
    past = PastDrives(state, checkpoint)
    assert len(past.cut_off_together()) == 2
    assert past.unfinished().endswith(
        f"--continue {newest}, 1 more of that launcher with it by --continue all"
    )
    theirs = PastDrives(state, Checkpoint.open(other))
    assert "of that launcher" not in theirs.unfinished()
