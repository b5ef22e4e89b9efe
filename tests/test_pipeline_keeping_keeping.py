"""What a launcher keeps of its worlds, and what it says of a drive that was cut off."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from actors.journal.drive import read_log
from actors.journal.place import StateFolder
from actors.journal.records import (
    LOG,
    Began,
    Ended,
    Head,
    Made,
    Record,
    Recorded,
    Shown,
    write_record,
)
from configs.errors import UserError
from configs.schema import RunConfig
from models.checkpoint import Checkpoint
from pipeline.keeping.keeping import Keeping
from pipeline.launch import Launch
from tests.tiny_checkpoint import write_checkpoint


def cut_off(
    state: Path, model: Path, *more: Record, engine: str = "torch-fp32", **whose: str
) -> StateFolder:
    """A state folder with one drive of six latents more, whose launcher was killed."""
    folder = StateFolder(state)
    place = folder.new()
    checkpoint = Checkpoint.open(model)
    head = Head(checkpoint.name, checkpoint.world_hash, engine, 1.75e9, **whose)
    records = [head, Began(0, 0, 7, "a road"), Made(0, "D*4,DL*2", ""), Shown(4), *more]
    (place.folder / LOG).write_bytes(b"".join(map(write_record, records)))
    place.leave()
    return folder


def test_a_start_says_that_a_drive_can_go_on(model: Path, tmp_path: Path) -> None:
    config = RunConfig(model_path=model, headless=True, state=tmp_path / "state")
    assert Launch.make(config).keeping.notes == []
    state = cut_off(tmp_path / "state", model)
    (line,) = Launch.make(config).keeping.notes
    name = state.names()[0]
    assert line == f"a drive was cut off 2 s in (a road); it goes on with --continue {name}"
    living = state.hold_newest()
    assert Launch.make(config).keeping.notes == [], "its session lives"
    living.leave()
    cut_off(tmp_path / "state", model, Ended())
    assert Launch.make(config).keeping.notes == [line], "behind a newer one that ended"
    held = Launch.make(replace(config, go_on=name)).keeping.held
    assert held is not None
    with (held.place.folder / LOG).open("ab") as log:
        log.write(write_record(Ended()))
    held.place.leave()
    assert Launch.make(config).keeping.notes == [], "it has gone on"


def test_drives_of_nothing_stand_in_nobodys_way(model: Path, tmp_path: Path) -> None:
    """As launchers leave them that were killed before their first latent, or after a reset."""
    state = cut_off(tmp_path / "state", model)
    (whole,) = state.names()
    cut_off(tmp_path / "state", model, Began(1, 0, 8, "a road"))
    place = state.new()
    (place.folder / LOG).write_bytes((state.path / whole / LOG).read_bytes().splitlines(True)[0])
    place.leave()
    for age, name in enumerate(state.names()):
        os.utime(state.path / name / LOG, (1.75e9 + 60 * age - 3600 * (name == whole),) * 2)
    config = RunConfig(model_path=model, headless=True, state=tmp_path / "state")
    assert len(state.names()) == 3 and state.names()[0] == whole
    (line,) = Launch.make(config).keeping.notes
    assert line.endswith(f"--continue {whole}")
    held = Launch.make(replace(config, go_on="")).keeping.held
    assert held is not None and held.place.name == whole
    held.place.remove()
    assert Launch.make(config).keeping.notes == []
    with pytest.raises(UserError, match="no drive .* can go on"):
        Launch.make(replace(config, go_on=""))


def test_it_goes_on_where_it_was_shown_last(model: Path, tmp_path: Path) -> None:
    video = tmp_path / "drive.mp4"
    video.touch()
    cut_off(tmp_path / "state", model, Recorded(str(video)))
    config = RunConfig(
        model_path=model, headless=True, state=tmp_path / "state", go_on="", controls="DR*2"
    )
    launch = Launch.make(config)
    (take,) = launch.takes
    assert (take.seed, take.first, launch.seed, launch.prompt) == (7, 4, 7, "a road")
    assert take.labels == ("D",) * 4 + ("DL", "DL", "DR", "DR")
    assert launch.info.engine == "torch-fp32", "what made it"
    assert launch.files.record == tmp_path / "drive-2.mp4"
    assert launch.continuation is not None
    summary = launch.continuation.told["continued"]
    assert summary["frame"] == 16
    assert summary["recordings"] == [str(video), str(tmp_path / "drive-2.mp4")]
    with pytest.raises(UserError, match="can go on"):
        Launch.make(config)  # this process has it


def test_all_worlds_of_the_launcher_that_died_go_on(model: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    cut_off(state, model, launcher="earlier", world="first")
    for world, name in (("first", "the first world"), ("0a1b", "Ann"), ("2c3d", "Bob")):
        folder = cut_off(state, model, launcher="mine", world=world, name=name)
    cut_off(state, model, Ended(), launcher="mine", world="4e5f")
    for age, name in enumerate(reversed(folder.names())):
        os.utime(folder.path / name / LOG, (1.76e9 - age,) * 2)
    config = RunConfig(model_path=model, state=state)
    (ended, *_) = folder.names()[::-1]
    os.utime(folder.path / ended / LOG, (1.75e9,) * 2)
    (line,) = Launch.make(config).keeping.notes
    assert line.endswith(", 2 more of that launcher with it by --continue all")
    launch = Launch.make(replace(config, go_on="all"))
    keeping, checkpoint = launch.keeping, Checkpoint.open(launch.weights)
    assert keeping.held is not None and keeping.held.drive.head.world == "first"
    assert keeping.held.drive.head.launcher == "mine", "not that of an earlier one"
    assert [each.whose.name for each in keeping.others] == ["Bob", "Ann"]
    assert keeping.launcher == "mine", "who still waits when this one dies belongs to it"
    known = keeping.drives()
    assert [each.ended for each in known] == [False, False, False, True], (
        "what is ours is not there"
    )
    held = keeping.take_up(keeping.others[0].journal, checkpoint)
    assert held.drive.shown == 4 and held.continuation().recording is None
    with pytest.raises(UserError, match="lives"):
        keeping.take_up(keeping.others[0].journal, checkpoint)
    with pytest.raises(UserError, match="headless"):
        replace(config, go_on="all", headless=True)
    with pytest.raises(UserError, match="was cut off"):
        Launch.make(replace(config, go_on="all", state=tmp_path / "empty"))


def three_worlds(state: Path, model: Path) -> list[Path]:
    """Of a launcher that was killed, the newest, which is the launcher's own, first."""
    for world in ("first", "0a1b", "2c3d"):
        folder = cut_off(state, model, launcher="mine", world=world, name=f"world {world}")
    folders = [folder.path / name for name in folder.names()]
    return [aged(each, age) for age, each in enumerate(sorted(folders, key=world_of))]


def world_of(folder: Path) -> bool:
    """The launcher's own first."""
    return read_log(folder)[0].world != "first"


def aged(folder: Path, age: float) -> Path:
    os.utime(folder / LOG, (1.76e9 - age,) * 2)
    return folder


def test_folders_that_were_copied_say_what_they_need(model: Path, tmp_path: Path) -> None:
    folders = three_worlds(tmp_path / "state", model)
    for folder in folders:
        folder.chmod(0o775)
    config = RunConfig(model_path=model, state=tmp_path / "state", engine="torch-fp32")
    for go_on in ("", "all"):
        with pytest.raises(UserError, match=f"can go on: .*chmod go-w {folders[0]}$"):
            Launch.make(replace(config, go_on=go_on))
    folders[2].chmod(0o700)
    for go_on, line in {"": "passed over: journal ", "all": "left out: journal "}.items():
        keeping = Launch.make(replace(config, go_on=go_on)).keeping
        assert keeping.held is not None and keeping.held.place.folder == folders[2]
        (said,) = [note for note in keeping.notes if note.startswith(line)]
        assert said.count("chmod go-w") == 2 and "\n" not in said
        keeping.held.place.leave()


def test_drives_of_other_weights_are_said_with_all_too(model: Path, tmp_path: Path) -> None:
    other = write_checkpoint(tmp_path / "other", seed=1)
    config = RunConfig(model_path=model, state=tmp_path / "state", engine="torch-fp32")
    folders = three_worlds(tmp_path / "state", other)
    for go_on in ("", "all"):
        with pytest.raises(UserError, match=f"{folders[0].name}: made .* MODEL_PATH$"):
            Launch.make(replace(config, go_on=go_on))
    cut_off(tmp_path / "state", model)
    (ours,) = {folder.parent for folder in (tmp_path / "state").glob(f"*/{LOG}")} - {*folders}
    keeping = Launch.make(replace(config, go_on="all")).keeping
    assert len(keeping.notes) == 1, "theirs are older, and of another launcher"
    assert keeping.held is not None
    keeping.held.place.leave()
    aged(ours, 10)
    keeping = Launch.make(replace(config, go_on="all")).keeping
    assert "left out: " in keeping.notes[1] and keeping.notes[1].count("MODEL_PATH") == 3


@pytest.mark.parametrize("byte", [30, 400])
def test_a_damaged_one_of_many_is_named_and_the_rest_goes_on(
    byte: int, model: Path, tmp_path: Path
) -> None:
    """In its head, by which nobody knows whose it was, or behind it."""
    folders = three_worlds(tmp_path / "state", model)
    log = folders[0] / LOG
    data = bytearray(log.read_bytes())
    data[byte] ^= 1
    log.write_bytes(data)
    for age in (0, 60):
        aged(folders[0], age)
        config = RunConfig(
            model_path=model, state=tmp_path / "state", engine="torch-fp32", go_on="all"
        )
        keeping = Launch.make(config).keeping
        assert keeping.held is not None and keeping.held.place.folder == folders[1]
        assert [each.journal for each in keeping.others] == [folders[2].name]
        (said,) = [note for note in keeping.notes if "left out" in note]
        assert said.startswith(f"left out: journal {folders[0].name}: ") and "\n" not in said
        keeping.held.place.leave()
    cut_off(tmp_path / "later", model)
    (folder,) = (tmp_path / "later").glob("2*")
    shutil.copytree(folder, tmp_path / "state" / "20300101-000000-0000")
    keeping = Launch.make(config).keeping
    assert keeping.held is not None and keeping.held.place.name == "20300101-000000-0000"
    assert ("left out" in " ".join(keeping.notes)) == (byte == 30), "it is of another launcher"


@pytest.mark.parametrize(
    "data",
    [b"", b"\0" * 100, write_record(Head("m", "w", "e", 1.0))[:-9]],
    ids=["nothing", "zeros", "half a head"],
)
def test_an_empty_log_stands_in_nobodys_way(data: bytes, model: Path, tmp_path: Path) -> None:
    """As a power loss leaves one: nothing was made in it."""
    folders = three_worlds(tmp_path / "state", model)
    place = StateFolder(tmp_path / "state").new()
    (place.folder / LOG).write_bytes(data)
    place.leave()
    config = RunConfig(model_path=model, state=tmp_path / "state", engine="torch-fp32")
    (line,) = Launch.make(config).keeping.notes
    assert f"--continue {folders[0].name}, 2 more" in line
    for go_on in ("", "all"):
        keeping = Launch.make(replace(config, go_on=go_on)).keeping
        assert keeping.held is not None and keeping.held.place.folder == folders[0]
        assert len(keeping.notes) == 1, "it is none that could be missed"
        keeping.held.place.leave()
    for folder in folders:
        shutil.rmtree(folder)
    assert Launch.make(config).keeping.notes == []


def test_of_one_that_lives_it_is_said(model: Path, tmp_path: Path) -> None:
    living = cut_off(tmp_path / "state", model).hold_newest()
    config = RunConfig(model_path=model, state=tmp_path / "state", engine="torch-fp32")
    for go_on in ("", "all"):
        with pytest.raises(UserError, match=f"{living.name}: its session lives"):
            Launch.make(replace(config, go_on=go_on))


def test_another_engine_is_said(model: Path, tmp_path: Path) -> None:
    cut_off(tmp_path / "state", model)
    config = RunConfig(model_path=model, headless=True, state=tmp_path / "state", go_on="")
    launch = Launch.make(replace(config, engine="torch-bf16"))
    assert any("close, not equal" in note for note in launch.notes)


def test_what_cannot_go_on_is_one_line(model: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    config = RunConfig(model_path=model, headless=True, state=state, go_on="")
    with pytest.raises(UserError, match="no drive .* can go on"):
        Launch.make(config)
    cut_off(state, model)
    other = write_checkpoint(tmp_path / "other", seed=1)
    for wrong, message in {
        replace(config, model_path=other): "choose its weights",
        replace(config, go_on="../x"): "no journal",
        replace(config, go_on="absent"): "no journal",
    }.items():
        with pytest.raises(UserError, match=message) as error:
            Launch.make(wrong)
        assert "\n" not in str(error.value)
    for settings in ({"prompt": "a"}, {"replay": tmp_path}, {"no_state": True, "state": None}):
        with pytest.raises(UserError, match="leave out"):
            replace(config, **settings)


def test_a_drive_goes_on_with_the_start_that_it_had_or_not_at_all(
    model: Path, tmp_path: Path
) -> None:
    """Its beginning, and every reset, follow from it."""
    config = RunConfig(model_path=model, headless=True, state=tmp_path / "state", go_on="")
    picture = tmp_path / "start.png"
    Image.new("RGB", (640, 480)).save(picture)
    cut_off(tmp_path / "state", model)
    with pytest.raises(UserError, match="leave --start out"):
        Launch.make(replace(config, start=picture))
    begun = Launch.make(replace(config, start=picture, go_on=None))
    checkpoint = Checkpoint.open(begun.weights)
    assert begun.keeping.drives() == []
    cut_off(tmp_path / "state", model, start=checkpoint.stream_hash)
    with pytest.raises(UserError, match="give the --start that it was made with"):
        Launch.make(config)
    assert Launch.make(replace(config, start=picture)).keeping.held is not None


def test_a_folder_that_cannot_be_is_an_error_if_it_was_asked_for(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    checkpoint = Checkpoint.open(model)
    with pytest.raises(UserError, match="cannot be used"):
        Keeping.of(RunConfig(state=tmp_path / "file"), checkpoint)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    keeping = Keeping.of(RunConfig(), checkpoint)
    assert keeping.state is None and "not kept" in keeping.notes[0]
    assert Keeping.of(RunConfig(no_state=True), checkpoint) == Keeping(None)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    Keeping.of(RunConfig(), checkpoint)
    assert (tmp_path / "home" / "the-matrix-live").stat().st_mode & 0o777 == 0o700
