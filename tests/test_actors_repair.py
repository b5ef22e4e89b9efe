"""What counts as hung, dead or too often: limits on time that ran, and faults counted once each."""

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from actors import repair
from actors.cluster import Cluster
from actors.gang import Gang
from actors.head import RunFolder
from actors.repair import Fault, Faults, Patience, line, watched
from actors.worker import Worker
from configs.choice import WeightChoice
from configs.errors import UserError


@pytest.fixture
def gang() -> Iterator[Gang]:
    """A gang whose one process does nothing."""
    folder = RunFolder()
    idle = [sys.executable, "-c", "import time; time.sleep(600)"]
    gang = Gang("dit", Worker, WeightChoice(Path()), Cluster("127.0.0.1:9", folder, None), [None])
    with subprocess.Popen(idle) as process:
        gang._processes, gang.alive = [psutil.Process(process.pid)], True
        yield gang
        process.kill()
    folder.remove()


@pytest.fixture(autouse=True)
def short_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repair, "BEAT", 0.05)
    monkeypatch.setattr(repair, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(repair, "STALL_FLOOR", 0.5)


def test_nothing_for_too_long_is_a_fault_of_the_gang(gang: Gang) -> None:
    async def wait() -> None:
        await watched(gang, asyncio.get_running_loop().create_future(), 0.3)

    with pytest.raises(Fault, match=r"dit: nothing came for") as fault:
        asyncio.run(wait())
    assert fault.value.gang is gang


def test_time_in_which_this_process_did_not_run_does_not_count(gang: Gang) -> None:
    async def wait() -> int:
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[int] = loop.create_future()
        loop.call_later(0.1, time.sleep, 1.5)  # nothing of this process runs meanwhile
        loop.call_later(0.3, outcome.set_result, 5)
        return await watched(gang, outcome, 0.4)

    assert asyncio.run(wait()) == 5


def test_a_stopped_process_is_given_up_long_before_the_limit(gang: Gang) -> None:
    gang._processes[0].send_signal(signal.SIGSTOP)

    async def wait() -> None:
        await watched(gang, asyncio.get_running_loop().create_future(), 600)

    began = time.monotonic()
    with pytest.raises(Fault):
        asyncio.run(wait())
    assert time.monotonic() - began < 4 and gang.stopped


def test_a_dead_process_breaks_its_gang_unless_somebody_ended_it(gang: Gang) -> None:
    assert not gang.broken
    gang._processes[0].kill()
    gang._processes[0].wait(10)
    assert gang.broken
    asyncio.run(gang.end())
    assert not gang.broken and not gang.alive


def test_patience_grows_with_what_is_usual() -> None:
    patience = Patience()
    assert patience.limit == repair.FIRST_STEP_SECONDS
    for seconds in (0.01, 0.02, 0.03):
        patience.took(seconds)
    assert patience.limit == repair.STALL_FLOOR
    for _ in range(64):
        patience.took(60.0)
    assert patience.limit == 60.0 * repair.STALL_FACTOR


def test_a_repair_is_one_fault_however_much_breaks_in_it() -> None:
    faults, fault = Faults(), Fault(None, "a worker process died")
    for _ in range(repair.FAULTS - 1):
        faults.count(fault)
        for _ in range(repair.DEATHS - 1):
            faults.again(fault)
    with pytest.raises(RuntimeError, match=r"3 failures within 60 s.*: a worker process died"):
        faults.count(fault)


def test_weights_that_do_not_load_end_a_repair_sooner_than_deaths() -> None:
    faults, broken = Faults(), Fault(None, "weights")
    broken.__cause__ = UserError("weights: cut short")
    faults.count(broken)
    faults.again(broken)
    with pytest.raises(RuntimeError, match="3 failures"):
        faults.again(broken)


def test_an_error_is_one_short_line() -> None:
    said = line(ValueError("first\n  second " + "x" * 500), Path("/nowhere"))
    assert said.startswith("ValueError: first second xx") and len(said) == 300


def test_a_dead_worker_is_told_with_its_last_words(tmp_path: Path) -> None:
    class ActorDiedError(Exception):
        pass

    error = ActorDiedError("The actor died.\n\tpid: 4711\n")
    assert line(error, tmp_path) == "a worker process died"
    log = tmp_path / "worker-abc-01000000-4711.err"
    log.write_text(":actor_name:DitWorker\n")
    assert "without a word: killed" in line(error, tmp_path)
    log.write_text("Fatal Python error: Bus error\n\nStack\n")
    assert line(error, tmp_path) == "a worker process died (Fatal Python error: Bus error)"
