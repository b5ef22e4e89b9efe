"""The Python client against a real gateway: frames as arrays, labels, prompts, replay of a
drive."""

import asyncio

import numpy as np
import pytest

from configs.errors import UserError
from pipeline.clients.client import connect
from tests.live import live, simulator
from tests.until import until


def run(body, *road, **settings):
    async def whole():
        async with (
            live(*road, **settings) as theatre,
            await connect(theatre.url, "tester") as client,
        ):
            return await body(theatre, client)

    return asyncio.run(whole())


def test_frames_are_arrays_in_order():
    async def body(theatre, client):
        assert client.world["name"] == "test road" and client.world["presets"]
        frames = []
        async for frame in client:
            frames.append(frame)
            if len(frames) == 24:
                break
        assert frames[0].image.shape == (96, 144, 3) and frames[0].image.dtype == np.uint8
        numbers = [frame.header.frame for frame in frames]
        assert numbers == sorted(set(numbers)) and frames[-1].header.width == 144

    run(body)


def test_the_motion_of_a_world_that_knows_it():
    async def body(theatre, client):
        for _ in range(8):
            await client.frame()
        assert client.world["motion"] and client.motion is not None
        assert client.motion["speed"] == pytest.approx(10.0, abs=0.1)
        assert 0 <= client.motion["heading"] < 360 and not client.has("motion")

    run(body, source=simulator)


def test_frames_arrive_faithfully():
    async def body(theatre, client):
        watching = theatre.show.subscribe()
        shown = {}
        for _ in range(16):
            frame = await client.frame()
            while (now := watching.frame()) is not None:
                shown[now.index] = now.image
            if frame.header.frame in shown:
                assert np.abs(frame.image.astype(int) - shown[frame.header.frame]).mean() < 4
        assert shown

    run(body)


def test_labels_steer_and_are_kept_held():
    async def body(theatre, client):
        seq = client.hold("BR")
        received, applied = await client.message("received"), await client.message("applied")
        assert received["seq"] == applied["seq"] == seq
        while (frame := await client.frame()).header.frame < applied["frame"]:
            assert frame.header.label == "D"
        for _ in range(24):  # longer than the silence after which keys count as released
            frame = await client.frame()
            assert frame.header.label == "BR" and frame.header.cursor == applied["cursor"]
        client.release()
        while (await client.frame()).header.label != "D":
            pass

    run(body)


def test_prompts_pause_and_reset():
    async def body(theatre, client):
        client.set_prompt("a road at night")
        states: list[str] = []
        while states[-1:] != ["shown"]:
            message = await client.message("prompt")
            if message["text"] == "a road at night":
                states.append(message["state"])
        assert states == ["pending", "shown"]
        client.pause()
        while not (await client.message("paused"))["paused"]:
            pass
        assert theatre.show.paused
        client.resume()
        client.reset(seed=5)
        while (await client.message("reset"))["seed"] != 5:
            pass
        while (await client.frame()).header.frame > 8:
            pass

    run(body)


def test_a_drive_can_be_driven_again():
    async def body(theatre, client):
        for label in ("DL", "DR"):
            seq = client.hold(label)
            while (await client.message("applied"))["seq"] != seq:
                pass
        client.release()
        client.pause()
        client.ask_take()
        take = await client.message("take")
        labels = theatre.show.take().labels
        assert take["seed"] == 42 and take["latents"] == len(labels) and {"DL", "DR"} <= set(labels)
        client.resume()
        client.replay(take["seed"], take["parts"])
        await until(
            lambda: theatre.show.epoch > 0 and len(theatre.show.take().labels) >= len(labels)
        )
        assert theatre.show.take().labels[: len(labels)] == labels

    run(body)


@pytest.mark.parametrize(
    "url",
    [
        *("", "127.0.0.1:8000", "http://127.0.0.1:8000/", "ftp://127.0.0.1/?token=x"),
        *("http://127.0.0.1:99999/?token=x", "http://:80/?token=x", 5, None),
    ],
)
def test_an_address_without_its_key_is_refused_in_words(url):
    with pytest.raises(UserError, match="expected the printed address"):
        asyncio.run(connect(url))


def test_a_wrong_key_is_refused_in_words():
    async def whole():
        async with live(wait=False) as theatre:
            with pytest.raises(UserError, match="did not let us in"):
                await connect(f"{theatre.origin}/?token=wrong-but-long-enough")

    asyncio.run(whole())


def test_the_end_of_the_show_ends_the_iteration():
    async def body(theatre, client):
        await client.frame()
        theatre.show.stop("enough")
        async for _ in client:
            pass
        for asking in (client.save, client.branch, client.moments):
            with pytest.raises(UserError, match=r": the connection ended .*\(enough\); connect"):
                await asking()
        assert "enough" in (await client.message("bye"))["reason"]
        with pytest.raises(ConnectionError):
            await client.message("stats that never come")

    run(body)
