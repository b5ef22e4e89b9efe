"""The journal beside a session: nobody waits for it, and a disk that fails costs the journal alone."""

import contextlib
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from actors.journal.drive import read_drive, read_log
from actors.journal.journal import NOT_KEPT, Journal
from actors.journal.place import TIDY, Place, StateFolder
from actors.journal.records import Head
from actors.journal.scribe import Scribe, snapshots
from actors.moments import commit_of
from actors.source import Take
from actors.timeline import Commit
from configs.errors import UserError
from models.live_world import LiveWorld
from models.parts import Parts
from models.snapshot import REPLAY
from tests.tiny_checkpoint import PROMPTS

CPU = torch.device("cpu")


class Told:
    """A journal of a world that is driven as a session drives it, with all that it says."""

    def __init__(self, parts: Parts, place: Place, **going_on) -> None:
        self.live = LiveWorld.begin(parts, PROMPTS[0], 7)
        self.lines: list[str] = []
        checkpoint = parts.checkpoint
        head = Head(checkpoint.name, checkpoint.world_hash, parts.engine, 1.75e9)
        self.journal = Journal(place, head, checkpoint, **going_on)
        self.journal.tell(self.lines.append)
        self.longest = 0.0

    def drive(self, steps: int) -> None:
        for _ in range(steps):
            self.live.step("DL")
            began = time.perf_counter()
            self.note()
            self.journal.shown(self.live.index - 2)
            self.longest = max(self.longest, time.perf_counter() - began)

    def note(self) -> None:
        self.journal.made(("DL",), self.live.prompt)
        first, last = self.journal.due
        if first <= last:
            self.journal.save(self.commit())

    def begin(self) -> None:
        self.journal.began(Take(7, (), ()), PROMPTS[0])

    def commit(self) -> Commit:
        return commit_of(self.live.snapshot())


def wait(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Until it is so; what cannot be read is not there yet."""

    def holds() -> bool:
        with contextlib.suppress(UserError):
            return bool(condition())
        return False

    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.005)


def test_it_is_kept_while_the_session_goes_on(parts: Parts, tmp_path: Path) -> None:
    told = Told(parts, StateFolder(tmp_path).new())
    told.begin()
    told.drive(20)
    told.journal.asked(PROMPTS[1])
    told.journal.recorded("/a/drive.mp4")
    folder = told.journal.place.folder
    wait(lambda: read_log(folder)[1].recording)
    drive = read_drive(folder, parts.checkpoint)
    assert (drive.index, drive.shown, drive.story.asked) == (16, 18, PROMPTS[1])
    told.live.rewind(10)
    led = Take(7, told.live.labels, (PROMPTS[0],) * 10)
    told.journal.began(led, PROMPTS[0], told.commit())
    told.drive(2)
    wait(lambda: read_log(folder)[1].next == 12)
    drive = read_drive(folder, parts.checkpoint)
    assert (drive.index, drive.shown, drive.story.labels) == (10, 10, ["DL"] * 12)
    told.journal.close(ended=True)
    assert read_log(folder)[1].ended and not told.journal.place.held and not told.lines
    told.journal.close(ended=True)


def test_it_gives_back_the_moments_of_its_stream(parts: Parts, tmp_path: Path) -> None:
    told = Told(parts, StateFolder(tmp_path).new())
    told.begin()
    told.drive(50)
    folder = told.journal.place.folder
    wait(lambda: len(snapshots(folder)) == 3)
    (folder / "0-32.world").write_bytes(b"torn")
    moments = told.journal.moments()
    assert [each.index for each in moments] == [16, 48] and told.journal.stream == 0
    assert all(each.state is not None and each.seed == 7 for each in moments)
    told.live = LiveWorld.begin(parts, PROMPTS[0], 7)
    told.begin()
    told.drive(20)
    wait(lambda: snapshots(folder)[-1] == (1, 16))
    assert [each.index for each in told.journal.moments()] == [16]
    told.journal.close(ended=True)


def test_it_goes_on_where_it_was(parts: Parts, tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    first = Told(parts, state.new())
    first.begin()
    first.drive(20)
    first.journal.close(ended=False)
    folder = first.journal.place.folder
    drive = read_drive(folder, parts.checkpoint)
    second = Told(parts, state.hold(folder.name), story=drive.story)
    assert drive.snapshot is not None
    second.live = LiveWorld.open(parts, drive.snapshot)
    second.journal.stands(16)
    second.drive(20)
    second.journal.close(ended=False)
    drive = read_drive(folder, parts.checkpoint)
    assert drive.story.labels == ["DL"] * 36 and snapshots(folder) == [(0, 16), (0, 32)]
    assert (drive.story.stream, drive.story.seed, drive.shown) == (0, 7, 34)
    undisturbed = LiveWorld.begin(parts, PROMPTS[0], 7)
    for _ in range(32):
        undisturbed.step("DL")
    assert drive.snapshot is not None
    again = LiveWorld.open(parts, drive.snapshot)
    assert np.array_equal(again.step("D"), undisturbed.step("D"))


@pytest.mark.parametrize("was_ended", [False, True])
def test_one_that_goes_on_with_nothing_new_stays_as_it_was(
    parts: Parts, tmp_path: Path, was_ended: bool
) -> None:
    """As a start that is stopped while it loads, or that fails, leaves it: cut off if it was, and
    with the others of its launcher; also where what was shown already was made and shown again."""
    state = StateFolder(tmp_path)
    first = Told(parts, state.new())
    first.begin()
    first.drive(20)
    first.journal.close(ended=was_ended)
    folder = first.journal.place.folder
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}

    def goes_on() -> Told:
        drive = read_drive(folder, parts.checkpoint)
        told = Told(parts, state.hold(folder.name), story=drive.story)
        assert drive.snapshot is not None
        told.live = LiveWorld.open(parts, drive.snapshot)
        told.journal.stands(16)
        return told

    for steps in (0, 3):
        told = goes_on()
        told.journal.recorded("/a/drive-2.mp4")
        told.drive(steps)
        told.journal.close(ended=True)
        now = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}
        assert now == before and not told.journal.place.held
    told = goes_on()
    told.journal.recorded("/a/drive-2.mp4")
    told.drive(5)
    told.journal.close(ended=True)
    _, story = read_log(folder)
    assert story.ended and (story.next, story.shown) == (21, 19)
    assert story.recording == "/a/drive-2.mp4"


def test_nothing_made_is_nothing_kept(parts: Parts, tmp_path: Path) -> None:
    told = Told(parts, StateFolder(tmp_path).new())
    told.begin()
    told.journal.close(ended=True)
    assert [entry.name for entry in tmp_path.iterdir()] == [TIDY]


def test_a_folder_that_goes_away_costs_the_journal_and_it_comes_back(
    parts: Parts, tmp_path: Path
) -> None:
    told = Told(parts, StateFolder(tmp_path).new())
    folder, journal = told.journal.place.folder, told.journal
    told.begin()
    told.drive(18)
    wait(lambda: snapshots(folder))
    folder.rename(tmp_path / "away")
    told.drive(14)
    wait(lambda: told.lines)
    told.drive(10)
    assert len(told.lines) == 1 and "not kept any more (" in told.lines[0]
    (tmp_path / "away").rename(folder)
    told.drive(6)
    wait(lambda: len(told.lines) == 2)
    assert "kept again" in told.lines[1]
    journal.close(ended=False)
    drive = read_drive(folder, parts.checkpoint)
    assert drive.story.next == 48 and drive.index in (16, 48)


FULL = """
import resource, sys
from pathlib import Path
import tests.test_actors_journal_journal as tests
from actors.journal.place import StateFolder
from models.checkpoint import Checkpoint
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
parts = tests.Parts(Checkpoint.open(Path(sys.argv[1])), tests.CPU, "float32")
told = tests.Told(parts, StateFolder(Path(sys.argv[2])).new())
told.begin()
told.drive(4)
tests.wait(lambda: tests.read_log(told.journal.place.folder)[1].next == 4)
size = (told.journal.place.folder / 'drive.log').stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, resource.RLIM_INFINITY))
told.drive(20)
tests.wait(lambda: told.lines)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
told.drive(12)
tests.wait(lambda: len(told.lines) == 2)
told.journal.close(ended=False)
print(*told.lines, tests.read_drive(told.journal.place.folder, parts.checkpoint).story.next, sep="\\n")
"""


def test_a_disk_that_is_full_costs_the_journal_and_it_comes_back(
    parts: Parts, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", FULL, str(parts.checkpoint.path), str(tmp_path / "state")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    lost, again, latents = done.stdout.splitlines()
    assert "not kept any more (" in lost and "kept again" in again and latents == "36"


def on_a_device_that_takes_nothing(
    parts: Parts, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Told:
    """A drive of two latents whose journal cannot be written any more."""
    told = Told(parts, StateFolder(folder).new())
    told.begin()
    told.drive(2)
    wait(lambda: read_log(told.journal.place.folder)[1].next == 2)
    full = Path("/dev/full").open("ab", buffering=0)  # noqa: SIM115
    monkeypatch.setattr(told.journal._scribe, "_log", full)
    monkeypatch.setattr(told.journal._scribe._log, "tell", lambda: 0, raising=False)
    return told


def test_a_device_that_takes_nothing_is_one_notice(
    parts: Parts,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    told = on_a_device_that_takes_nothing(parts, tmp_path, monkeypatch)
    told.drive(6)
    wait(lambda: told.lines)
    told.drive(6)
    assert len(told.lines) == 1 and "No space left on device" in told.lines[0]
    assert not caplog.records, "the terminal says the notice"
    told.journal.close(ended=False)


def test_what_cannot_be_written_at_the_end_is_a_line_of_the_log(
    parts: Parts,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    told = on_a_device_that_takes_nothing(parts, tmp_path, monkeypatch)
    told.journal.close(ended=True)
    (line,) = [record.getMessage() for record in caplog.records]
    assert "No space left on device" in line and not told.lines


def test_a_disk_that_hangs_delays_nobody(
    parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.journal.journal.WAITING", 40)
    monkeypatch.setattr("actors.journal.journal.END_SECONDS", 0.1)
    monkeypatch.setattr(Scribe, "write", lambda *_: time.sleep(0.5))
    told = Told(parts, StateFolder(tmp_path).new())
    told.begin()
    told.drive(40)
    assert len(told.lines) == 1 and "fell 40 records behind" in told.lines[0]
    assert told.longest < 0.1
    began = time.monotonic()
    told.journal.close(ended=True)
    assert time.monotonic() - began < 2


def test_nobody_waits_for_it(parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the session's loop pays for a latent, and for one after which a snapshot is due."""
    told = Told(parts, StateFolder(tmp_path).new())
    for _ in range(REPLAY):
        told.live.step("DL")
    commit, spent = told.commit(), []
    told.begin()
    for index in range(REPLAY, 200):
        assert commit.state is not None
        now = replace(commit, index=index + 1, state=replace(commit.state, index=index + 1))
        monkeypatch.setattr(told, "commit", lambda now=now: now)
        began = time.thread_time()
        told.note()
        told.journal.shown(index - 1)
        spent.append(time.thread_time() - began)
        time.sleep(0.002)
    assert sorted(spent)[-3] < 0.002
    told.journal.close(ended=True)
    assert not told.lines and snapshots(told.journal.place.folder)


def test_a_fault_of_the_writer_itself_is_said(
    parts: Parts, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Without the latents before it a moment is none: whoever makes such a thing, the drive goes on
    and is told to be unkept, once, until it is kept again."""
    told = Told(parts, StateFolder(tmp_path).new())
    told.begin()
    told.drive(3)
    told.journal.save(replace(told.commit(), history=()))
    wait(lambda: told.lines)
    assert told.lines == [f"{NOT_KEPT} (AssertionError)"] and "Traceback" in caplog.text
    told.drive(30)
    wait(lambda: len(told.lines) == 2)
    assert told.lines[1] == "the drive is kept again"
    told.journal.close(ended=True)


def test_a_state_folder_without_a_place_is_said_at_once(tmp_path: Path) -> None:
    state = StateFolder(tmp_path / "state")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        with pytest.raises((UserError, OSError)):
            state.new()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
