"""Worlds on a fleet: each with a journal that says whose it is; drives of another launcher go on, one
or all of them."""

import asyncio
import fcntl
import os
import random
import shutil
import signal
import time
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import numpy as np
import pytest

from actors.costs import Load
from actors.journal.drive import read_log
from actors.journal.kept import KeptSession
from actors.journal.place import TIDY
from actors.journal.records import Recorded
from actors.session import Session
from actors.source import ChunkSource, FrameChunk
from configs.errors import UserError
from configs.schema import RunConfig
from models.checkpoint import Checkpoint
from models.controls import parse_signal
from pipeline.clients.client import Client, Frame, connect
from pipeline.clients.lobby import Lobby
from pipeline.host import Whose
from pipeline.hosting import Hosting
from pipeline.launch import Launch
from pipeline.video import decode_jpeg, encode_jpeg
from tests.launcher import Launcher
from tests.live import live
from tests.test_pipeline_keeping_keeping import cut_off
from the_matrix import the_matrix

TOKEN = "a-token-made-for-these-tests-only"
ENGINE = "torch-fp32"


def test_a_world_that_cannot_be_kept_says_so(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    launch = Launch.make(RunConfig(model_path=model, state=tmp_path / "state", engine="torch-fp32"))
    hosting = Hosting(launch.fleet(), launch.keeping, Checkpoint.open(launch.weights))
    shutil.rmtree(tmp_path / "state")
    made = asyncio.run(hosting.source(Whose("0a1b", "Ann")))
    assert isinstance(made.source, Session) and not launch.keeping.notes
    assert "Ann is not kept: state folder" in caplog.text


def test_a_world_that_waits_for_its_journal_s_place_keeps_nobody(
    model: Path, tmp_path: Path
) -> None:
    launch = Launch.make(RunConfig(model_path=model, state=tmp_path / "state", engine="torch-fp32"))
    hosting = Hosting(launch.fleet(), launch.keeping, Checkpoint.open(launch.weights))

    async def whole() -> None:
        handle = os.open(tmp_path / "state" / TIDY, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(handle, fcntl.LOCK_EX)  # as another launcher does while it tidies up
        making = asyncio.create_task(hosting.source(Whose("0a1b", "Ann")))
        await asyncio.sleep(0.3)
        assert not making.done(), "it waits, and everybody else goes on"
        os.close(handle)
        async with asyncio.timeout(20):
            made = await making
        assert isinstance(made.source, KeptSession)
        await made.source.close()

    asyncio.run(whole())


def test_a_drive_goes_on_in_a_journal_that_is_ours(model: Path, tmp_path: Path) -> None:
    video = tmp_path / "drive.mp4"
    whose = {"launcher": "dead", "world": "0a1b", "name": "Ann"}
    state = cut_off(tmp_path / "state", model, Recorded(str(video)), engine="torch-bf16", **whose)
    launch = Launch.make(RunConfig(model_path=model, state=tmp_path / "state", engine="torch-fp32"))
    hosting = Hosting(launch.fleet(), launch.keeping, Checkpoint.open(launch.weights))

    async def whole() -> None:
        assert hosting.capacity == 1, "nothing is known yet"
        assert hosting.loads == [Load(0, 0, 0, 0.0, 0.0)]
        (drive,) = await hosting.drives()
        assert (drive.whose, drive.prompt, drive.seconds) == (Whose("0a1b", "Ann"), "a road", 1.5)
        made = await hosting.source(Whose("0a1b", "Ann"), drive.journal)
        going_on = made.continuation
        assert isinstance(made.source, KeptSession) and going_on is not None
        assert (going_on.take.seed, going_on.take.first) == (7, 4)
        assert going_on.recording == tmp_path / "drive-2.mp4"
        continued = going_on.told["continued"]
        assert continued["frame"] == 16 and continued["recordings"][0] == str(video)
        assert await hosting.drives() == []
        with pytest.raises(UserError, match="lives"):
            await hosting.source(Whose("2c3d", ""), drive.journal)
        other = await hosting.source(Whose("4e5f", "Bob"))
        assert other.continuation is None and isinstance(other.source, KeptSession)
        for source in (made.source, other.source):
            await source.close()
        head, story = read_log(state.path / drive.journal)
        assert (head.launcher, head.name, head.engine) == ("dead", "Ann", "torch-bf16")
        assert not story.ended and state.names() == [drive.journal], "nothing was shown here"

        made = await hosting.source(Whose("0a1b", "Ann"), drive.journal)
        await one_latent(made.source)
        await made.source.close()
        head, story = read_log(state.path / drive.journal)
        assert (head.launcher, head.name) == (launch.keeping.launcher, "Ann")
        assert head.engine == "torch-fp32" and story.ended and story.labels == ["DL"]

    asyncio.run(whole())


async def one_latent(kept: ChunkSource) -> None:
    """The first one of a new seed, as it comes from the workers."""
    assert isinstance(kept, KeptSession)
    epoch, frames = kept.reset(9), np.zeros((1, 8, 8, 3), np.uint8)
    chunk = FrameChunk(epoch, 0, 0, frames, ("DL",), 0, 0, "a road", ("DL",))
    kept._session._chunks.put_nowait(chunk)
    await kept.next()


def test_what_is_not_kept_is_no_drive(model: Path) -> None:
    launch = Launch.make(RunConfig(model_path=model, no_state=True))
    hosting = Hosting(launch.fleet(), launch.keeping, Checkpoint.open(launch.weights))

    async def whole() -> None:
        assert await hosting.drives() == []
        assert isinstance((await hosting.source(Whose("0a1b", ""))).source, Session)
        with pytest.raises(UserError, match="nothing is kept here"):
            await hosting.source(Whose("0a1b", ""), "2026")

    asyncio.run(whole())


def test_all_that_lived_go_on_and_one_that_cannot_is_said(tmp_path: Path, model: Path) -> None:
    state = cut_off(tmp_path, model, launcher="dead", world="0a1b", name="Ann")
    cut_off(tmp_path, model, launcher="dead", world="2c3d", name="Bob")
    launch = Launch.make(RunConfig(model_path=model, state=tmp_path))
    said: list[str] = []

    async def whole() -> None:
        async with live(many={}) as theatre:
            host = theatre.worlds.host
            assert host is not None
            drives = launch.keeping.drives()
            host.past = drives[:1]  # type: ignore[attr-defined]
            await theatre.worlds.go_on(drives, said.append)
            (other,) = [world for world in theatre.worlds if not world.own]
            assert other.name == drives[0].whose.name and other.id == drives[0].whose.id

    asyncio.run(whole())
    assert len(state.names()) == 2
    assert len(said) == 1 and said[0].endswith("does not go on: no journal " + state.names()[0])


class Watching:
    """A client that drives a world by a rhythm of its own and keeps all that it sees."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.frames: dict[int, Frame] = {}

    async def drive(self, count: int) -> None:
        """Until so many frames came since this call."""
        wanted = len(self.frames) + count
        while len(self.frames) < wanted and (frame := await self.client.frame()) is not None:
            self.frames[frame.header.frame] = frame
            if frame.header.frame % 16 < 4:
                self.client.hold(("D", "DL", "DR")[frame.header.frame // 16 % 3])

    async def differ(self, world: the_matrix) -> list[int]:
        """Frames that are not those of the drive so far in a world that nothing disturbed."""
        self.client.ask_take()
        take = await self.client.message("take")
        (part,) = take["parts"]
        controls, seed = parse_signal(part["controls"]), take["seed"]
        stream = world.stream(part["prompt"], controls, seed=seed)
        whole = np.concatenate([frames for _, frames in stream])
        seen = [frame for index, frame in self.frames.items() if index < len(whole)]
        assert len(seen) > 30
        return [
            frame.header.frame
            for frame in seen
            if (again(whole[frame.header.frame], frame) != frame.image).any()
        ]


def again(image: np.ndarray, frame: Frame) -> np.ndarray:
    """An image as it comes through at the quality of a frame."""
    return decode_jpeg(encode_jpeg(image, frame.header.quality))


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(3))
def test_a_killed_launcher_with_two_worlds_goes_on_with_both(tmp_path: Path, seed: int) -> None:
    """Under their addresses, where they were shown last, with the frames of undisturbed drives."""
    settings = ("--port", 0, "--state", tmp_path / "state", "--engine", ENGINE)
    cut, world = random.Random(seed).randrange(20, 200), the_matrix(engine=ENGINE)

    async def whole() -> None:
        first = Launcher(*settings, MATRIX_TOKEN=TOKEN)
        url = (await asyncio.to_thread(first.wait_for, r"open (http\S+)"))[1]
        own = Watching(await connect(url))
        await own.drive(8)
        card = await own.client.new_world(seed=seed, name="Ann")
        other = Watching(await connect(card.driver))
        await asyncio.gather(own.drive(cut), other.drive(cut))
        last = max(own.frames), max(other.frames)
        first.process.kill()
        await asyncio.to_thread(first.process.wait)

        begun = time.monotonic()
        second = Launcher(*settings, "--continue", "all", MATRIX_TOKEN=TOKEN)
        url = (await asyncio.to_thread(second.wait_for, r"open (http\S+)"))[1]
        own.client = await connect(url)
        await own.drive(1)
        print(f"first frame after {time.monotonic() - begun:.1f} s")
        while [one.name for one in await Lobby(url).worlds()] != ["the first world", "Ann"]:
            await own.drive(4)
        print(f"the other one after {time.monotonic() - begun:.1f} s")
        parts = urlsplit(url), urlsplit(card.driver)
        other.client = await connect(urlunsplit((*parts[0][:2], *parts[1][2:])))
        for watching, shown in zip((own, other), last, strict=True):
            before = len(watching.frames)
            await watching.drive(40)
            resumed = list(watching.frames)[before]
            assert resumed <= shown + 8, "from where it was shown last"
            assert await watching.differ(world) == []
            await watching.client.close()
        code, _ = second.end(signal.SIGINT)
        assert code == 130

    asyncio.run(whole())
