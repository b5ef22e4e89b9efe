"""Who drives and what messages do, with a real show over a real child program; hostile messages
harm nobody."""

import asyncio
import json
import random
import time
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from pipeline.stage.program import Program
from pipeline.stage.show import Show
from pipeline.web import room as rooms
from pipeline.web import wheel
from pipeline.web.messages import unpack_frame
from pipeline.web.metrics import Counters
from pipeline.web.room import Room
from pipeline.web.viewer import Viewer
from tests.hostile import hostile
from tests.live import ROAD
from tests.until import until


class Stage:
    """A room around a playing show, without sockets; what each viewer's writer sends is kept."""

    def __init__(self, show: Show) -> None:
        self.show = show
        self.registry = CollectorRegistry()
        self.room = Room(show, Counters(self.registry))
        self.sent: dict[Viewer, list[dict]] = {}
        self.writers: list[asyncio.Task] = []

    def join(self, name: str = "") -> Viewer:
        viewer = self.room.join({"client": name})
        log = self.sent[viewer] = []

        async def text(data: str) -> None:
            log.append(json.loads(data))

        async def binary(data: bytes) -> None:
            header, _ = unpack_frame(data)
            viewer.acked(header.epoch, header.frame)

        self.writers.append(
            asyncio.create_task(
                viewer.run(lambda event: self.room.hear(viewer, event), text, binary)
            )
        )
        return viewer

    def say(self, viewer, kind: str, **fields) -> None:
        self.room.handle(viewer, json.dumps({"type": kind, **fields}))

    def heard(self, viewer: Viewer, kind: str) -> list[dict]:
        """Messages of a kind, those included that wait to be written."""
        return [
            message
            for message in [*self.sent[viewer], *viewer._messages]
            if message["type"] == kind
        ]


def stage(body, tmp_path=None, wait=True) -> None:
    async def whole():
        show = Show(
            await Program.launch(ROAD),
            seed=42,
            prompt="noon",
            recordings=tmp_path or Path("/dev/null/recordings"),
        )
        running = asyncio.create_task(show.run())
        theatre = Stage(show)
        try:
            await until(lambda: show.ready or not wait)
            await body(theatre)
        finally:
            await theatre.room.close()
            show.stop()
            await running
            await asyncio.gather(*theatre.writers)

    asyncio.run(whole())


def test_the_first_drives_the_others_watch_and_anyone_may_take_over():
    async def body(s):
        first, second = s.join("a"), s.join("b")
        assert s.room.wheel.driver is first
        assert s.heard(second, "role")[-1] == {
            "type": "role",
            "role": "viewer",
            "watching": 1,
            "driven": True,
        }
        s.say(second, "input", seq=1, keys=["left"])
        assert "take control first" in s.heard(second, "error")[-1]["message"]
        s.say(second, "take_control")
        assert s.room.wheel.driver is second and s.heard(first, "role")[-1]["role"] == "viewer"
        s.say(second, "input", seq=2, keys=["left"])
        assert s.heard(second, "received")[-1]["label"] == "DL"

    stage(body)


def test_the_wheel_waits_for_its_owner_and_goes_to_who_steers():
    async def body(s):
        owner, other = s.join("owner"), s.join("other")
        s.room.leave(owner)
        assert s.room.wheel.driver is None and s.heard(other, "role")[-1]["driven"] is False
        assert s.join("stranger") is not s.room.wheel.driver
        owner = s.join("owner")
        assert s.room.wheel.driver is owner, "a page that comes back drives on"
        again = s.join("owner")
        assert s.room.wheel.driver is again, (
            "also when its old connection has not been noticed to be dead"
        )
        s.room.leave(again)
        s.say(other, "input", seq=1, keys=["right"])
        assert s.room.wheel.driver is other

    stage(body)


def test_every_control_is_answered_twice():
    async def body(s):
        driver = s.join()
        for seq, keys in enumerate((["left"], ["left"], ["right"], []), start=1):
            s.say(driver, "input", seq=seq, keys=keys)
            await until(lambda seq=seq: len(s.heard(driver, "applied")) == seq)
        received, applied = s.heard(driver, "received"), s.heard(driver, "applied")
        assert [m["seq"] for m in received] == [m["seq"] for m in applied] == [1, 2, 3, 4]
        assert (
            received[0]["cursor"]
            == received[1]["cursor"]
            < received[2]["cursor"]
            < received[3]["cursor"]
        )
        assert (
            applied[0]["frame"] == applied[1]["frame"] < applied[2]["frame"] < applied[3]["frame"]
        )
        assert all(m["frame"] == 4 * m["latent"] and not m["overtaken"] for m in applied)

    stage(body)


def test_a_receipt_names_the_very_first_frame_that_its_control_conditioned():
    async def body(s):
        driver, frames = s.join(), []
        watching = s.show.subscribe()

        async def watch():
            while await watching.wait():
                watching.events()
                if frame := watching.frame():
                    frames.append(frame)

        task = asyncio.create_task(watch())
        s.say(driver, "input", seq=1, keys=["reverse"])
        await until(lambda: s.heard(driver, "applied"))
        await asyncio.sleep(0.3)
        first = s.heard(driver, "applied")[0]
        assert (
            next(frame.index for frame in frames if frame.cursor >= first["cursor"])
            == first["frame"]
        )
        assert next(frame.index for frame in frames if frame.label == "B") == first["frame"]
        task.cancel()

    stage(body)


def test_a_key_held_while_the_world_loads_is_answered_but_tells_no_delay():
    async def body(s):
        driver = s.join()
        s.say(driver, "input", seq=1, keys=["left"])
        await until(lambda: s.heard(driver, "applied"))
        assert s.heard(driver, "applied")[0]["frame"] == 0
        assert s.show.stats()["control_to_frame_ms"]["p95"] is None

    stage(body, wait=False)


def test_controls_within_one_latent_are_overtaken_by_the_latest():
    async def body(s):
        driver = s.join()
        s.show.pause()
        for seq in range(1, 8):
            s.say(driver, "input", seq=seq, keys=[["left"], ["right"]][seq % 2])
            await asyncio.sleep(0.01)
        s.show.resume()
        await until(lambda: len(s.heard(driver, "applied")) == 7)
        applied = s.heard(driver, "applied")
        assert [m["seq"] for m in applied] == list(range(1, 8)) and len(
            {m["frame"] for m in applied}
        ) == 1
        assert [m["overtaken"] for m in applied] == [True] * 6 + [False]

    stage(body)


def test_a_silent_driver_lets_go_of_the_keys_after_a_second(monkeypatch):
    monkeypatch.setattr(wheel, "SILENCE", 0.6)

    async def body(s):
        driver = s.join()
        for seq in range(1, 8):
            s.say(driver, "input", seq=seq, keys=["left"])
            said = time.monotonic()
            await asyncio.sleep(0.15)
            assert s.show.held == "DL" or time.monotonic() - said > 0.6, "repeated inputs keep it"
        await until(lambda: s.show.held == "D", 5)
        s.say(driver, "input", seq=9, keys=["left"])
        s.room.leave(driver)
        assert s.show.held == "D", "a driver who leaves lets go at once"

    stage(body)
    monkeypatch.undo()
    assert wheel.SILENCE == 1.0


def test_prompt_pause_reset_and_replay(tmp_path):
    async def body(s):
        driver, watcher = s.join(), s.join()
        s.say(driver, "prompt", prompt="  a road\tat night ")
        await until(
            lambda: [m["text"] for m in s.heard(driver, "prompt") if m["state"] == "shown"][1:]
        )
        assert [m["state"] for m in s.heard(driver, "prompt")][-2:] == ["pending", "shown"]
        assert s.show.prompt == "a road at night"
        s.say(driver, "pause")
        await asyncio.sleep(0)
        assert s.show.paused
        s.say(driver, "resume")
        s.say(driver, "reset", seed=7)
        assert s.show.seed == 7
        s.say(driver, "reset")
        assert s.show.seed == 7
        s.say(driver, "reset", seed=None)
        assert s.show.seed != 7
        s.say(watcher, "pause")
        assert "take control" in s.heard(watcher, "error")[-1]["message"] and not s.show.paused
        await until(lambda: s.show.take().labels)
        s.say(watcher, "take")
        take = s.heard(watcher, "take")[-1]
        assert take["seed"] == s.show.seed and take["parts"][0]["prompt"] == "a road at night"
        s.say(driver, "replay", seed=take["seed"], model="another", parts=take["parts"])
        assert "another model" in s.heard(driver, "error")[-1]["message"]
        s.say(
            driver,
            "replay",
            seed=5,
            model=take["model"],
            parts=[{"prompt": "snow", "controls": "DL*2"}],
        )
        await until(lambda: len(s.show.take().labels) >= 3)
        assert s.show.take().labels[:3] == ("DL", "DL", "D") and s.show.take().seed == 5

    stage(body)


def test_recordings_are_listed_once_they_are_there(tmp_path):
    async def body(s):
        driver = s.join()
        s.say(driver, "record", on=True)
        await asyncio.sleep(0.5)
        s.say(driver, "record", on=True)
        assert s.heard(driver, "error"), "a second recording is refused"
        s.say(driver, "record", on=False)
        await until(lambda: len(s.heard(driver, "record")) == 2)
        files = s.heard(driver, "record")[-1]["files"]
        assert sorted(name.rsplit(".")[-1] for name in files) == ["jsonl", "mp4"]
        assert all((tmp_path / name.removeprefix("recordings/")).is_file() for name in files)

    stage(body, tmp_path)


def test_a_recording_that_cannot_be_written_is_said_and_the_driver_drives_on(tmp_path):
    (tmp_path / "file").touch()

    async def body(s):
        driver = s.join()
        s.say(driver, "record", on=True)
        assert "cannot be started" in s.heard(driver, "error")[-1]["message"]
        s.say(driver, "input", seq=1, keys=["left"])
        assert s.heard(driver, "received")

    stage(body, tmp_path / "file" / "recordings")


def test_the_room_has_a_last_seat_and_watchers_leave_some_to_drivers(monkeypatch):
    monkeypatch.setattr(rooms, "MOST_VIEWERS", 2)
    monkeypatch.setattr(rooms, "KEPT_SEATS", 1)

    async def body(s):
        for _ in range(2):
            s.room.join({}, rooms.Right.WATCHER)
        with pytest.raises(rooms.UserError, match="full"):
            s.room.join({}, rooms.Right.WATCHER)
        s.join()
        with pytest.raises(rooms.UserError, match="full: 3 are in it"):
            s.join()

    stage(body)


def test_a_long_drive_is_put_together_once_a_second(monkeypatch):
    made = []

    def parts(take):
        made.append(take)
        return []

    monkeypatch.setattr(rooms.messages, "take_parts", parts)

    async def body(s):
        watcher = s.join("somebody")
        for _ in range(50):
            s.say(watcher, "take")
        assert len(s.heard(watcher, "take")) and len(made) == 1

    stage(body)


def test_a_file_that_cannot_be_named_so_is_an_answer_and_no_end(tmp_path):
    async def body(s):
        driver = s.join("driver")
        s.show.recordings.files["x.world"] = tmp_path / "x.world"
        s.say(driver, "rename", name="x.world", to="\U0001d49c" * 80)
        assert s.heard(driver, "error")
        s.say(driver, "delete", name="x.world")
        assert "x.world" not in s.show.recordings.files

    stage(body, tmp_path)


def test_twelve_thousand_hostile_messages_harm_nobody(tmp_path):
    async def body(s):
        dice = random.Random(2026)
        driver, bystander = s.join("driver"), s.join("bystander")
        frames_before = s.show.stats()["frames"]
        for count in range(12_000):
            s.room.handle((driver, bystander)[count % 2], hostile(dice))
            await asyncio.sleep(0)
        assert len(s.heard(driver, "error") + s.heard(bystander, "error")) > 9000, (
            "bad messages are answered"
        )
        s.say(driver, "take_control")
        s.say(driver, "resume")
        s.say(driver, "reset", seed=1)
        s.say(driver, "input", seq=1, label="BL")
        await until(lambda: s.heard(driver, "applied"))
        assert (
            s.show.stats()["frames"] > frames_before and s.show.ready and len(s.room.viewers) == 2
        )
        refused = s.registry.get_sample_value("matrix_refused_total", {"what": "message"})
        assert refused and refused > 5000

    stage(body, tmp_path)
