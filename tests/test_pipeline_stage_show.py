"""The show over a source that draws its frames (tests/squares.py): pacing, receipts, takes, recordings."""

import asyncio
import gc
import json
import time

import pytest

from actors.source import Notice, Take
from configs.errors import UserError
from pipeline.stage.control_log import read_control_log
from pipeline.stage.show import UNSEEN_LATENTS, Show, _freeze
from pipeline.video import read_video
from tests import virtual_time
from tests.squares import INFO, Squares, kinds, picture, play, watch
from tests.until import until


def test_frames_come_in_order_at_the_frame_rate_and_never_more_than_two_latents_ahead():
    source = Squares()
    show, (frames, events) = play(source, lambda show: watch(show, lambda f, e: len(f) >= 33))
    assert [frame.index for frame in frames] == list(range(33))
    times = [frame.stamps["shown"] for frame in frames]
    assert 1.9 < times[-1] - times[0] < 2.6
    assert all((frame.image == picture(1, frame.index, "D")).all() for frame in frames)
    assert source.most_ahead <= 2 and source.closed
    assert gc.get_freeze_count() > 10_000  # no full round of the collector in the middle of a slot
    assert kinds(events)[:4] == ["status", "reset", "paused", "prompt"]


def test_what_is_loaded_is_set_aside_once_and_nobody_counts_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Counting what is frozen took 30 ms of a launcher whenever a world began: the others' frames
    were late."""
    frozen: list[None] = []
    monkeypatch.setattr(gc, "freeze", lambda: frozen.append(None))
    monkeypatch.setattr(gc, "get_freeze_count", lambda: pytest.fail("it takes half a slot"))
    _freeze.cache_clear()
    for _ in range(2):
        play(Squares(), lambda show: watch(show, lambda f, e: len(f) >= 3))
    _freeze.cache_clear()
    assert len(frozen) == 1


def test_a_held_label_is_answered_with_the_first_frame_it_conditioned():
    async def drive(show):
        watching = asyncio.create_task(
            watch(show, lambda f, e: "receipt" in kinds(e) and len(f) > 16)
        )
        await watch(show, lambda f, e: len(f) >= 5)
        assert (show.hold("DL"), show.hold("DL"), show.hold("DR")) == (1, 1, 2)
        return await watching

    show, (frames, events) = play(Squares(), drive)
    receipts = [event.data for event in events if event.kind == "receipt"]
    assert [(r["cursor"], r["label"]) for r in receipts] == [(2, "DR")]
    first = next(frame for frame in frames if frame.label == "DR")
    assert first.index == receipts[0]["frame"] and first.index % 4 == 0
    assert first.stamps["received"] <= first.stamps["sampled"] <= first.stamps["shown"]
    assert len(show.figures.control.everything) == 1
    with pytest.raises(UserError, match="label"):
        show.hold("UP")


@pytest.mark.parametrize("busy", [False, True])
def test_what_nobody_saw_begins_again_for_the_first_viewer(busy):
    async def drive(show):
        await until(lambda: show.latent >= UNSEEN_LATENTS)
        frames, _ = await watch(show, lambda f, e: len(f) >= 5)
        later, _ = await watch(show, lambda f, e: len(f) >= 2)
        return frames, later

    takes = [Take(1, ("D",) * 40, ("a road",) * 40)] if busy else []
    _, (frames, later) = play(Squares(), drive, anew=True, takes=takes)
    begun = next(frame.index for frame in frames if frame.epoch == later[-1].epoch)
    assert (begun <= 1) is not busy
    assert later[0].epoch == later[-1].epoch and later[0].index > 0, "once"


def test_a_slow_viewer_gets_the_newest_frame_and_every_event():
    async def drive(show):
        sub = show.subscribe()
        await watch(show, lambda f, e: len(f) >= 20 and "stats" in kinds(e))
        newest, events = sub.frame(), sub.events()
        return sub, newest, events

    show, (sub, newest, events) = play(Squares(), drive)
    assert newest.index >= 19 and sub.dropped >= 19
    assert kinds(events).count("status") == 2 and "stats" in kinds(events)
    assert show.stats()["drops"] == sub.dropped


def test_pause_stops_the_world_and_does_not_count():
    async def drive(show):
        await watch(show, lambda f, e: len(f) >= 6)
        show.pause()
        before = show.stats()["frame"]
        await asyncio.sleep(0.5)
        assert (show.stats()["frame"], show.state) == (before, "paused")
        show.resume()
        return await watch(show, lambda f, e: len(f) >= 6)

    show, (frames, _) = play(Squares(), drive)
    first, last = show.figures.first_shown, frames[-1].stamps["shown"]
    # the half second is missing
    assert first is not None and show.figures.shown.seconds < last - first
    assert frames[-1].index >= 10


def test_reset_begins_again_with_the_seed():
    async def drive(show):
        await watch(show, lambda f, e: len(f) >= 6)
        assert show.reset(3) == 3
        return await watch(show, lambda f, e: f and f[-1].index >= 8 and f[-1].epoch == 1)

    show, (frames, events) = play(Squares(), drive)
    world = [frame for frame in frames if frame.epoch == 1]
    assert [frame.index for frame in world] == list(range(9))
    assert all((frame.image == picture(3, frame.index, "D")).all() for frame in world)
    assert show.take().seed == 3
    with pytest.raises(UserError, match="seed"):
        show.reset(-1)


def test_prompts_are_pending_then_shown_or_failed():
    async def drive(show):
        await watch(show, lambda f, e: len(f) >= 2)
        watching = asyncio.create_task(
            watch(
                show,
                lambda f, e: (
                    ("snow fields", "shown")
                    in [(x.data["text"], x.data["state"]) for x in e if x.kind == "prompt"]
                ),
            )
        )
        await asyncio.sleep(0)
        show.set_prompt("impossible")
        await asyncio.sleep(0.05)
        show.set_prompt("snow\nfields")
        return await watching

    show, (_, events) = play(Squares(), drive)
    prompts = [(e.data["text"], e.data["state"]) for e in events if e.kind == "prompt"][1:]
    assert prompts == [
        ("impossible", "pending"),
        ("impossible", "failed"),
        ("snow fields", "pending"),
        ("snow fields", "shown"),
    ]
    with pytest.raises(UserError, match="prompt"):
        show.set_prompt("  ")


def test_the_duration_is_counted_in_shown_frames():
    async def run():
        show = Show(Squares(), seed=1, prompt="a road", duration=1.5)
        await asyncio.wait_for(show.run(), 10)
        return show

    show = asyncio.run(run())
    assert show.figures.frames == 24


def test_a_recording_and_its_log_reproduce_the_drive(tmp_path):
    async def drive(show):
        await watch(show, lambda f, e: len(f) >= 6)
        show.hold("DL")
        path = show.recordings.start(tmp_path / "drive.mp4")
        with pytest.raises(UserError, match="drive.mp4"):
            show.recordings.start()
        await watch(show, lambda f, e: len(f) >= 12)
        show.hold("DR")
        await watch(show, lambda f, e: len(f) >= 16)
        assert await show.recordings.stop() == path
        assert await show.recordings.stop() is None
        return show.take()

    _, take = play(Squares(), drive)
    frames, fps = read_video(tmp_path / "drive.mp4")
    assert fps == 16 and 24 <= len(frames) <= 28
    line = json.loads((tmp_path / "drive.jsonl").read_text().splitlines()[0])
    assert set(line) == {
        "index",
        "epoch",
        "label",
        "prompt",
        "seed",
        "model",
        "engine",
        "time",
        "monotonic",
    }
    assert abs(line["time"] - time.time()) < 60 and abs(line["monotonic"] - time.monotonic()) < 60
    (logged,) = read_control_log(tmp_path / "drive.jsonl", INFO)
    assert logged.labels == take.labels[: len(logged.labels)] and set(logged.labels) == {
        "D",
        "DL",
        "DR",
    }
    assert (logged.seed, set(logged.prompts)) == (1, {"a road"})

    async def replay(show):
        show.replay([logged])
        return await watch(
            show, lambda f, e: f and f[-1].epoch == 1 and f[-1].latent == len(logged.labels)
        )

    _, (again, _) = play(Squares(), replay, seed=9)
    again = [frame for frame in again if frame.epoch == 1][: 4 * len(logged.labels)]
    assert all((f.image == picture(1, f.index, logged.labels[f.latent])).all() for f in again)


def test_several_takes_follow_each_other_and_end_the_show():
    takes = [Take(1, ("D", "DL"), ("a", "b")), Take(2, ("DR",), ("c",))]

    async def run():
        show = Show(Squares(), seed=5, prompt="a road", takes=takes, stop_after_takes=True)
        watching = asyncio.create_task(watch(show, lambda f, e: "bye" in kinds(e)))
        await asyncio.wait_for(show.run(), 10)
        return await watching

    frames, events = asyncio.run(run())
    assert [(frame.index, frame.label, frame.prompt) for frame in frames] == [
        *((n, "D", "a") for n in range(4)),
        *((n, "DL", "b") for n in range(4, 8)),
        *((n, "DR", "c") for n in range(4)),
    ]
    assert all(
        (f.image == picture(2 if f.label == "DR" else 1, f.index, f.label)).all() for f in frames
    )


def test_a_notice_is_told_once_and_not_to_who_joins_later():
    async def drive(show):
        await watch(show, lambda f, e: len(f) >= 2)
        here = show.subscribe()
        show.source.report(Notice("prompt", "not known here: dragon"))
        told = [event for event in here.events() if event.kind == "notice"]
        later = show.subscribe()
        return told, later.events()

    _, (told, heard_later) = play(Squares(), drive)
    assert [dict(event.data) for event in told] == [
        {"level": "warning", "about": "prompt", "message": "not known here: dragon"}
    ]
    assert "notice" not in kinds(heard_later)
    (status,) = [event.data for event in heard_later if event.kind == "status"]
    assert status["stage"] == "loading", "the last stage, and no notice in its place"


def test_a_full_disk_ends_the_files_with_a_notice_and_never_the_show(tmp_path):
    full = tmp_path / "full.jsonl"

    async def drive(show):
        await watch(show, lambda f, e: len(f) >= 2)
        show.tape.log(full)
        show.tape._logs[-1]._file = open("/dev/full", "w")  # noqa: SIM115
        return await watch(show, lambda f, e: len(f) >= 12 and "notice" in kinds(e))

    show, (frames, events) = play(Squares(), drive)
    (notice,) = [event.data["message"] for event in events if event.kind == "notice"]
    assert str(full) in notice and "space" in notice and len(frames) >= 12


def test_a_killed_encoder_ends_the_recording_with_a_notice(tmp_path):
    async def drive(show):
        show.recordings.start(tmp_path / "drive.mp4")
        await watch(show, lambda f, e: len(f) >= 40)
        show.recordings.running._writer._process.kill()
        return await watch(
            show, lambda f, e: "failed" in [x.data["state"] for x in e if x.kind == "record"]
        )

    show, (_, events) = play(Squares(), drive)
    assert any(
        event.kind == "notice" and "recording ended" in event.data["message"] for event in events
    )
    assert len(read_video(tmp_path / "drive.mp4")[0]) >= 1


def test_the_world_goes_back_and_on_by_hand(tmp_path):
    """Under the prompt of then, with the label that is held; the log beside the recording shows
    what was shown."""

    async def drive(show):
        watching = asyncio.create_task(
            watch(show, lambda f, e: f and f[-1].epoch == 1 and f[-1].index >= 16)
        )
        show.recordings.start(tmp_path / "drive.mp4")
        await watch(show, lambda f, e: f and f[-1].latent >= 2)
        show.set_prompt("snow")
        await watch(show, lambda f, e: f and f[-1].prompt == "snow" and f[-1].index % 4 == 1)
        show.hold("DR")
        before = show.latent
        with pytest.raises(UserError, match=f"from 0 to {before}"):
            show.rewind(before + 1)
        show.rewind(1)
        shown = await watching
        await show.recordings.stop()
        return before, show.take(), shown

    show, (before, take, (frames, events)) = play(Squares(), drive)
    after = [frame for frame in frames if frame.epoch == 1]
    assert [frame.index for frame in after] == list(range(4, 17))
    assert {(frame.label, frame.prompt) for frame in after} == {("DR", "a road")}
    (rewound,) = [event.data for event in events if event.kind == "rewound"]
    assert rewound == {"epoch": 1, "latent": 1, "seed": 1, "prompt": "a road"}
    assert take.labels == ("D", *("DR",) * (len(take.labels) - 1)) and take.first == 0
    first, second = read_control_log(tmp_path / "drive.jsonl", INFO)
    assert (first.first, len(first.labels)) == (0, before + 1)
    assert (second.first, second.labels[0]) == (1, "D") and set(second.labels[1:]) == {"DR"}
    recorded, _ = read_video(tmp_path / "drive.mp4")
    whole = 4 * (len(first.labels) + len(second.labels) - 1)
    assert whole - 4 < len(recorded) <= whole  # each latent that it went back from is whole


def test_going_back_again_and_again_is_neither_late_nor_a_stall(monkeypatch):
    """On a clock that no busy machine can hold up."""

    async def drive():
        show = Show(Squares(0.2), seed=1, prompt="a road")
        running = asyncio.create_task(show.run())
        for epoch in range(4):
            await watch(show, lambda f, e, n=epoch: f and (f[-1].epoch, f[-1].latent) == (n, 5))
            show.rewind(2)
        await watch(show, lambda f, e: f and f[-1].latent == 4)
        show.stop()
        await running
        return show.figures

    figures = virtual_time.run(drive(), monkeypatch)
    assert (figures.stalls, figures.late_slots) == (0, 0)
    assert figures.frames == (4 * 5 + 1) + 3 * (4 * 3 + 1) + (4 * 2 + 1)


def test_a_log_that_goes_back_is_driven_again_and_logged_alike(tmp_path):
    takes = [Take(1, ("D",) * 3, ("a",) * 3), Take(1, ("D", "DL", "DL"), ("a",) * 3, first=1)]

    async def run():
        show = Show(Squares(), seed=1, prompt="a", takes=takes, stop_after_takes=True)
        watching = asyncio.create_task(watch(show, lambda f, e: "bye" in kinds(e)))
        await show.run(lambda show: show.tape.log(tmp_path / "log"))
        return await watching

    frames, events = asyncio.run(run())
    shown = [("D", index) for index in range(12)] + [("DL", index) for index in range(4, 12)]
    assert [(frame.label, frame.index) for frame in frames] == shown
    assert read_control_log(tmp_path / "log", INFO) == takes
    assert [e.data["latent"] for e in events if e.kind == "rewound"] == [1]


def test_a_lost_world_comes_back_where_it_was_and_so_does_one_from_a_file(tmp_path):
    async def drive(show):
        show.hold("DL")
        show.tape.log(tmp_path / "log")
        with pytest.raises(UserError, match="no world was left"):
            show.open(show.past.left())
        await watch(show, lambda f, e: f and f[-1].latent >= 4)
        path = await show.past.save(show.past.at(2, show.latent))
        left = show.latent
        show.hold("DR")
        show.reset(5)
        await watch(show, lambda f, e: f and f[-1].epoch == 1 and f[-1].latent >= 2)
        show.open(show.past.left())
        back, _ = await watch(show, lambda f, e: f and f[-1].epoch == 2 and f[-1].latent >= 6)
        show.open(await show.past.load(path))
        opened, _ = await watch(show, lambda f, e: f and f[-1].epoch == 3 and f[-1].latent >= 3)
        return left, [f for f in back if f.epoch == 2], [f for f in opened if f.epoch == 3], path

    show, (left, back, opened, path) = play(Squares(), drive, recordings=tmp_path / "films")
    assert path.suffix == ".world" and show.recordings.files == {path.name: path}
    assert back[0].index == 4 * left and opened[0].index == 8
    assert all((f.image == picture(1, f.index, "DR")).all() for f in back + opened)
    first, second, third, fourth = read_control_log(tmp_path / "log", INFO)
    assert (first.seed, first.first, set(first.labels)) == (1, 0, {"DL"})
    assert (second.seed, second.first, set(second.labels)) == (5, 0, {"DR"})
    assert (third.seed, third.first) == (1, left) and third.labels[:left] == first.labels[:left]
    assert fourth.first == 2 and fourth.labels[:3] == ("DL", "DL", "DR")
