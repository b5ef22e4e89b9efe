"""Files of a run: named, renamed, deleted, and nothing else is touched. The show's tests play what
was recorded."""

import asyncio

import numpy as np
import pytest

from configs.errors import UserError
from pipeline.stage.audience import Audience
from pipeline.stage.recordings import Recordings
from pipeline.stage.tape import Tape
from tests.shown import shown
from tests.squares import INFO

FRAME = shown(image=np.zeros((INFO.height, INFO.width, 3), np.uint8))


def recordings_in(folder):
    """Of a show that has shown nothing, and its tape."""
    audience = Audience()
    tape = Tape(INFO, 7, audience)
    return Recordings(INFO, tape, audience, folder), tape


def recorded(tmp_path):
    """One finished recording of one frame, and its name."""
    recordings, tape = recordings_in(tmp_path)
    path = recordings.start()
    recordings.add(FRAME)
    tape.latent(0, "D", "a road")
    assert asyncio.run(recordings.stop()) == path
    return recordings, path.name


def test_a_recording_is_renamed_and_deleted_with_its_log(tmp_path):
    recordings, name = recorded(tmp_path)
    recordings.rename(name, "Evening (2)")
    assert sorted(recordings.files) == ["Evening (2).jsonl", "Evening (2).mp4"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(recordings.files)
    recordings.delete("Evening (2).mp4")
    assert not recordings.files and not list(tmp_path.iterdir())


def test_a_recordings_new_name_is_the_same_however_it_was_typed(tmp_path):
    recordings, name = recorded(tmp_path)
    recordings.rename(name, "Zoe\u0308 ที่ 3")
    assert sorted(recordings.files) == ["Zoë ที่ 3.jsonl", "Zoë ที่ 3.mp4"]


@pytest.mark.parametrize(
    "stem",
    [
        *("", "../up", "a/b", "a\\b", ".hidden", "x" * 81, "a\nb", "a\0b", "-rf", "C:", "a;b"),
        "\U00020000" * 80,  # letters of four bytes each: longer than a file's name can be
    ],
)
def test_a_recordings_new_name_leads_nowhere_else(tmp_path, stem):
    recordings, name = recorded(tmp_path)
    with pytest.raises(UserError, match="recording name"):
        recordings.rename(name, stem)
    assert (tmp_path / name).is_file()


def test_what_is_no_finished_recording_of_this_run_stays(tmp_path):
    recordings, name = recorded(tmp_path)
    (tmp_path / "other.mp4").write_bytes(b"x")
    for other in ("other.mp4", "../other.mp4", "", name.replace("mp4", "jsonl")):
        with pytest.raises(UserError, match="this run has none"):
            recordings.delete(other)
    with pytest.raises(UserError):
        recordings.rename(name, "other")  # it is there already
    running = recordings.start(tmp_path / "running.mp4")
    recordings.add(FRAME)
    for action in (
        lambda: recordings.delete("running.mp4"),
        lambda: recordings.rename("running.mp4", "x"),
    ):
        with pytest.raises(UserError, match="is being recorded"):
            action()
    asyncio.run(recordings.stop())
    assert running.exists()
    assert (tmp_path / "other.mp4").read_bytes() == b"x" and (tmp_path / name).is_file()


def test_one_that_cannot_begin_leaves_nothing(tmp_path):
    """Before anything was shown, and so with a log that has no line yet."""
    (tmp_path / "taken.mp4").write_bytes(b"x")
    recordings, tape = recordings_in(tmp_path)
    with pytest.raises(UserError, match=r"taken\.mp4"):
        recordings.start(tmp_path / "taken.mp4")
    assert not tape.logged and not recordings.files and recordings.running is None
    assert [path.name for path in tmp_path.iterdir()] == ["taken.mp4"]


@pytest.mark.parametrize("what", ["there already", "full"])
def test_one_that_cannot_go_on_is_told_and_costs_nothing_else(tmp_path, what, monkeypatch):
    audience = Audience()
    recordings = Recordings(INFO, Tape(INFO, 7, audience), audience, tmp_path)
    said: list[str] = []
    monkeypatch.setattr(audience, "warn", said.append)
    path = tmp_path / "drive-2.mp4"
    if what == "full":

        def full(log):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("pipeline.stage.tape.ControlLog.flush", full)
    else:
        path.touch()
    before = sorted(tmp_path.iterdir())
    recordings.go_on(path)
    assert len(said) == 1 and said[0].startswith("the recording does not go on: ")
    assert recordings.running is None and sorted(tmp_path.iterdir()) == before
    monkeypatch.undo()
    recordings.go_on(tmp_path / "drive-3.mp4")
    assert recordings.running is not None
    asyncio.run(recordings.stop())


@pytest.mark.parametrize("noticed", [False, True])
def test_a_recording_that_fails_is_one_notice_whenever_it_shows(tmp_path, noticed):
    async def body():
        audience = Audience()
        recordings = Recordings(INFO, Tape(INFO, 7, audience), audience, tmp_path)
        heard = audience.join()
        recordings.start()
        recordings.add(FRAME)
        assert recordings.running is not None
        recordings.running.error = "no room"
        if noticed:  # by the next frame, before it is stopped
            recordings.add(FRAME)
        await recordings.stop()
        await recordings.close()
        assert recordings.failures == ["recording ended: no room"]
        return [event.data["message"] for event in heard.events() if event.kind == "notice"]

    assert asyncio.run(body()) == ["recording ended: no room"]
