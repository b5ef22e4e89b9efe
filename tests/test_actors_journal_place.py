"""Where journals lie: private, locked while their sessions live, bounded in number and size."""

import os
import shutil
import subprocess
import sys
import time
import zlib
from pathlib import Path

import pytest

from actors.journal import place as module
from actors.journal.place import CUT_OFF, IDLE, LOCK, Place, StateFolder, was_ended
from actors.journal.records import LOG, Ended, Head, write_record
from configs.errors import UserError

HEAD = write_record(Head("tiny/stage4", "ab", "torch-fp32", 1.75e9))


def journal(state: StateFolder, name: str, age: float, ended: bool = False) -> Path:
    """A journal of a session that does not live."""
    folder = state.path / name
    folder.mkdir(0o700)
    (folder / LOG).write_bytes(HEAD + (write_record(Ended()) if ended else b""))
    os.utime(folder / LOG, (time.time() - age,) * 2)
    return folder


def test_only_this_user_may_enter(tmp_path: Path) -> None:
    state = StateFolder(tmp_path / "a" / "b")
    held = state.new()
    for folder in (tmp_path / "a" / "b", held.folder):
        assert folder.stat().st_mode & 0o777 == 0o700
    assert (held.folder / LOCK).stat().st_mode & 0o777 == 0o600
    (tmp_path / "link").symlink_to(tmp_path / "a")
    (tmp_path / "file").touch()
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o770)
    for name, message in {
        "link": "cannot be used",
        "file": "cannot be used",
        "file/below": "cannot be used",
        "open": "chmod go-w",
    }.items():
        with pytest.raises(UserError, match=message) as error:
            StateFolder(tmp_path / name)
        assert "\n" not in str(error.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a folder to somebody else")
def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir(0o755)
    os.chown(tmp_path / "theirs", 12345, 12345)
    with pytest.raises(UserError, match="belongs to somebody else"):
        StateFolder(tmp_path / "theirs")
    state = StateFolder(tmp_path / "ours")
    os.chown(journal(state, "theirs", 1), 12345, 12345)
    with pytest.raises(UserError, match="belongs to somebody else"):
        state.hold("theirs")


def test_names_with_path_parts_and_links_are_none(tmp_path: Path) -> None:
    state = StateFolder(tmp_path / "state")
    real = journal(state, "real", 1)
    (state.path / "linked").symlink_to(real)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / LOG).touch()
    assert state.names() == ["real"]
    for name in ("../outside", "..", ".", "", "/", "real/.", "a\0b", "absent", "-x", "x" * 99):
        with pytest.raises(UserError, match="no journal .*there are: real"):
            state.hold(name)
    with pytest.raises(UserError):
        state.hold("linked")


def test_of_two_launchers_only_one_has_it(tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    journal(state, "old", 60)
    journal(state, "new", 10)
    first = state.hold_newest()
    assert first.name == "new"
    with pytest.raises(UserError, match="its session lives"):
        state.hold("new")
    second = StateFolder(tmp_path).hold_newest()
    assert second.name == "old"
    with pytest.raises(UserError, match="can go on"):
        state.hold_newest()
    first.leave()
    assert state.hold_newest().name == "new"


def test_a_killed_launcher_holds_nothing(tmp_path: Path) -> None:
    folder = journal(StateFolder(tmp_path), "drive", 1)
    program = "import sys; from pathlib import Path; from actors.journal.place import Place\n"
    program += "place = Place(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", program, str(folder)]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None and child.stdout.readline() == b"held\n"
    with pytest.raises(UserError, match="lives"):
        Place(folder)
    child.kill()
    child.wait()
    Place(folder).leave()


def test_the_oldest_go_first_ended_before_cut_off_and_never_a_living_one(tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    for age in range(1, 7):
        journal(state, f"ended-{age}", 100 * age, ended=True)
        journal(state, f"cut-{age}", 100 * age + 50)
    alive = state.hold("cut-6")
    assert was_ended(tmp_path / "ended-1") and not was_ended(tmp_path / "cut-1")
    made = state.new()
    cut = [f"cut-{age}" for age in (5, 4, 3, 2, 1)]
    assert set(state.names()) == {*cut, "ended-2", "ended-1", "cut-6"}
    assert len(state.names()) == IDLE and alive.held and made.folder.is_dir()


def test_a_plain_start_keeps_every_world_of_a_launcher_that_was_killed(tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    for world in range(CUT_OFF + 3):
        journal(state, f"cut-{world}", 100 + world)
    journal(state, "ended", 1, ended=True)
    state.new().leave()
    assert set(state.names()) == {f"cut-{world}" for world in range(CUT_OFF)}


@pytest.mark.parametrize("text", [b'{"kind": "new"}', b"", b"{", b"\xff"])
def test_a_log_of_a_later_version_is_not_held_for_ever(text: bytes, tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    folder = journal(state, "later", 10)
    with (folder / LOG).open("ab") as log:
        log.write(b"%08x %08x %s\n" % (len(text), zlib.crc32(text), text))
    for _ in range(2):
        assert state.idle() == [(folder, False)]
        state.new().leave()
    state.hold("later").leave()


def test_they_are_bounded_in_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IDLE_BYTES", 2500)
    state = StateFolder(tmp_path)
    for age in range(1, 5):
        (journal(state, f"cut-{age}", age) / "0-16.world").write_bytes(bytes(1000))
    state.new()
    assert state.names() == ["cut-2", "cut-1"]


def test_what_a_start_left_is_swept(tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    for name, age in (("stale", 7200), ("fresh", 60)):
        (tmp_path / name).mkdir(0o700)
        (tmp_path / name / LOCK).touch()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    living = state.new()
    assert not (tmp_path / "stale").exists() and (tmp_path / "fresh").exists()
    living.remove()
    assert not living.folder.exists() and not living.held


def test_one_that_a_person_deletes_meanwhile_stops_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = StateFolder(tmp_path)
    journal(state, "gone", 10)

    def deleted(folder: Path) -> bool:
        shutil.rmtree(folder)
        return False

    monkeypatch.setattr(module, "was_ended", deleted)
    place = state.new()
    assert place.held and state.names() == []
