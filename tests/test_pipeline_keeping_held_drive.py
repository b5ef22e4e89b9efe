"""A drive whose journal is ours, and where its recording goes on."""

from pathlib import Path

import pytest

from actors.journal.records import Recorded
from configs.errors import UserError
from models.checkpoint import Checkpoint
from pipeline.keeping.held_drive import HeldDrive
from tests.test_pipeline_keeping_keeping import cut_off
from tests.tiny_checkpoint import write_checkpoint


def test_a_recording_goes_on_beside_itself_or_where_it_was_asked_for(
    model: Path, tmp_path: Path
) -> None:
    cut = tmp_path / "drive.mp4"
    state = cut_off(tmp_path / "state", model, Recorded(str(cut)))
    held = HeldDrive.of(state.hold_newest(), Checkpoint.open(model))
    for taken in (cut, tmp_path / "drive-2.mp4", tmp_path / "drive-3.jsonl"):
        taken.touch()
    going_on = held.continuation()
    assert going_on.take == held.drive.take and going_on.take.first == 4
    assert going_on.recording == tmp_path / "drive-4.mp4"
    assert going_on.told == {
        "continued": {
            "journal": held.place.name,
            "frame": 16,
            "recordings": [str(cut), str(going_on.recording)],
        }
    }
    asked = held.continuation(tmp_path / "mine.mp4")
    assert asked.recording == tmp_path / "mine.mp4"
    assert asked.told["continued"]["recordings"] == [str(cut), str(asked.recording)]


def test_without_a_recording_none_goes_on(model: Path, tmp_path: Path) -> None:
    held = HeldDrive.of(cut_off(tmp_path, model).hold_newest(), Checkpoint.open(model))
    for going_on in (held.continuation(), held.continuation(tmp_path / "mine.mp4")):
        assert going_on.told["continued"]["recordings"] == []
    assert held.continuation().recording is None


def test_what_cannot_go_on_is_left_to_others(model: Path, tmp_path: Path) -> None:
    state = cut_off(tmp_path / "state", model)
    other = write_checkpoint(tmp_path / "other", seed=1)
    with pytest.raises(UserError, match="choose its weights"):
        HeldDrive.of(state.hold_newest(), Checkpoint.open(other))
    assert state.hold_newest().held


@pytest.mark.parametrize(
    "cut", ["gone/drive.mp4", "/", "drive.avi", "x" * 300 + ".mp4", "y" * 300 + "/drive.mp4"]
)
def test_a_recording_that_cannot_go_on_keeps_no_drive_back(
    cut: str, model: Path, tmp_path: Path
) -> None:
    state = cut_off(tmp_path / "state", model, Recorded(str(tmp_path / cut)))
    held = HeldDrive.of(state.hold_newest(), Checkpoint.open(model))
    assert held.continuation().recording is None
    assert held.continuation().told["continued"]["recordings"] == [str(tmp_path / cut)]
    nowhere, why = held.beside()
    assert nowhere is None and why.startswith("the drive goes on, its recording does not: ")
    asked = held.continuation(tmp_path / "mine.mp4")
    assert asked.recording == tmp_path / "mine.mp4"


def test_the_name_of_a_long_one_goes_on_shortened(model: Path, tmp_path: Path) -> None:
    cut = tmp_path / ("世" * 82 + ".mp4")  # 250 bytes
    state = cut_off(tmp_path / "state", model, Recorded(str(cut)))
    held = HeldDrive.of(state.hold_newest(), Checkpoint.open(model))
    assert held.beside() == (tmp_path / ("世" * 66 + "-2.mp4"), "")
