"""What H.264 costs and saves against JPEG, measured: ``python -m tests.video_cost [--seconds 8] [--
COMMAND]``. COMMAND is a world of the frame protocol (docs/protocol.md), by default the road of the
tests at 720x480.

Three parts in one run: bits at equal PSNR and encode time of the same frames; key to picture in a
real Chromium, once with and once without a decoder; the server's CPU with 30 viewers of each kind.
"""

import argparse
import asyncio
import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable

import av
import numpy as np
import psutil
from av.video.reformatter import Interpolation
from websockets.asyncio.client import connect

from actors.source import Pace
from pipeline.bench.engines import psnr
from pipeline.stage.program import Program
from pipeline.stage.show import Show
from pipeline.video import FrameEncoder, decode_jpeg, encode_jpeg
from pipeline.web.gateway import Gateway
from pipeline.web.quality import CRF
from pipeline.worlds import Worlds
from tests.browser import chromium, playing
from tests.live import PROMPT, TOKEN

ROAD = [sys.executable, "-m", "tests.road", "--size", "720x480"]
CRFS = (16, 19, *CRF.values(), 38, 44)
VIEWERS = 30


async def frames_of(command: list[str], seconds: float) -> list[np.ndarray]:
    """Frames of a drive that turns now and then."""
    source = await Program.launch(command)
    await source.start(42, PROMPT, lambda report: None)
    frames: list[np.ndarray] = []
    while len(frames) < 16 * seconds:
        source.hold(("D", "DL", "D", "DR")[len(frames) // 32 % 4], len(frames) + 1)
        source.pace(Pace(index=0, start=0, shown=len(frames) // 4))  # as fast as it can
        frames += list((await source.next()).frames)
    await source.close()
    return frames


def coded(frames: list[np.ndarray], encode: Callable[[np.ndarray], bytes], decode) -> tuple:
    """Mbit/s, PSNR in dB and milliseconds (p50, p95) of an encoder."""
    pieces, times = [], []
    for frame in frames:
        begun = time.perf_counter()
        pieces.append(encode(frame))
        times.append(1000 * (time.perf_counter() - begun))
    shown = decode(pieces)
    quality = statistics.mean(psnr(a, b) for a, b in zip(frames, shown, strict=True))
    cuts = statistics.quantiles(times, n=20)
    return 16 * 8e-6 * sum(map(len, pieces)) / len(frames), quality, cuts[9], cuts[18]


def decode_video(pieces: list[bytes]) -> list[np.ndarray]:
    decoder = av.CodecContext.create("h264", "r")
    pictures = [picture for piece in pieces for picture in decoder.decode(av.Packet(piece))]
    pictures += decoder.decode(None)
    # colours between their samples, as a browser and the JPEG decoder draw them
    fine = Interpolation.BICUBIC | Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND
    return [
        picture.reformat(format="rgb24", interpolation=fine).to_ndarray() for picture in pictures
    ]


def bits(frames: list[np.ndarray]) -> None:
    height, width, _ = frames[0].shape
    curve = {}
    for crf in CRFS:
        encoder, first = FrameEncoder(width, height, 16, crf), iter([True])
        curve[crf] = coded(frames, lambda f: encoder.encode(f, next(first, False)), decode_video)  # noqa: B023
    print(
        "                 Mbit/s   PSNR   encode p50/p95 ms   H.264 at equal PSNR: Mbit/s, times less"
    )
    rates, levels = [row[0] for row in curve.values()], [row[1] for row in curve.values()]
    for quality, crf in CRF.items():
        rate, level, *spent = coded(
            frames,
            lambda f: encode_jpeg(f, quality),  # noqa: B023
            lambda pieces: [decode_jpeg(piece) for piece in pieces],
        )
        equal = float(np.exp(np.interp(level, levels[::-1], np.log(rates[::-1]))))
        print(line(f"JPEG {quality}", rate, level, spent) + f"   {equal:.2f}, {rate / equal:.1f}")
        rate, level, *spent = curve[crf]
        print(line(f"H.264 crf {crf}", rate, level, spent))


def line(name: str, rate: float, level: float, spent) -> str:
    return f"{name:16} {rate:6.2f} {level:7.2f}   {spent[0]:8.2f} / {spent[1]:.2f}      "


async def serving(command: list[str]) -> tuple[Show, Gateway, "asyncio.Task[None]"]:
    show = Show(await Program.launch(command), seed=42, prompt=PROMPT)
    gateway = Gateway(Worlds(show), host="127.0.0.1", port=0, token=TOKEN)
    await gateway.start()
    running = asyncio.create_task(show.run())
    while not show.ready:
        await asyncio.sleep(0.05)
    return show, gateway, running


async def delay(command: list[str], seconds: float) -> None:
    """Transport, decode and paint, and key to picture, as the page measures them."""
    show, gateway, running = await serving(command)
    async with chromium() as browser:
        for name, script in (("H.264", ""), ("JPEG", "delete window.VideoDecoder")):
            context = await browser.new_context()
            await context.add_init_script(script or "0")
            tab = await context.new_page()
            await tab.goto(gateway.url)
            await playing(tab)
            await tab.keyboard.press("KeyH")
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                for key in ("KeyA", "KeyD"):
                    await tab.keyboard.down(key)
                    await asyncio.sleep(0.37)
                    await tab.keyboard.up(key)
                    await asyncio.sleep(0.31)
            rows = await tab.locator("#hud-split tr").all_inner_texts()
            facts = (await tab.inner_text("#hud-link")).replace("\n", " ")
            told = [row.replace("\t", " ") for row in rows[-3:]]
            print(f"{name}, p50 p95 ms:", "; ".join(told), "|", facts)
            await context.close()
    show.stop()
    await running
    await gateway.close()


def watch(port: int, video: bool) -> None:
    """30 viewers in a process of their own: they acknowledge every frame."""

    async def one() -> None:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with connect(f"ws://127.0.0.1:{port}/live", additional_headers=headers) as link:
            await link.send(json.dumps({"type": "hello", "video": video}))
            async for data in link:
                if isinstance(data, bytes):
                    place = int.from_bytes(data[12:16]), int.from_bytes(data[16:20])
                    ack = {"type": "ack", "epoch": place[0], "frame": place[1]}
                    await link.send(json.dumps(ack))

    async def everybody() -> None:
        await asyncio.gather(*(one() for _ in range(VIEWERS)))

    asyncio.run(everybody())


async def crowd(command: list[str], seconds: float) -> None:
    show, gateway, running = await serving(command)
    for name, video in (("H.264", True), ("JPEG", False)):
        viewers = multiprocessing.get_context("spawn").Process(
            target=watch, args=(gateway.port, video), daemon=True
        )
        viewers.start()
        while show.viewers < VIEWERS:
            await asyncio.sleep(0.1)
        await asyncio.sleep(1)
        me, begun = psutil.Process(), time.monotonic()
        before, dropped = sum(me.cpu_times()[:2]), show.stats()["late_slots"]
        await asyncio.sleep(seconds)
        used = 100 * (sum(me.cpu_times()[:2]) - before) / (time.monotonic() - begun)
        late = show.stats()["late_slots"] - dropped
        print(f"{VIEWERS} viewers, {name}: {used:.0f} % of one core, {late} late slots")
        viewers.terminate()
        viewers.join()
        while show.viewers:
            await asyncio.sleep(0.1)
    show.stop()
    await running
    await gateway.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("command", nargs="*", default=ROAD)
    options = parser.parse_args()
    bits(asyncio.run(frames_of(options.command, options.seconds)))
    asyncio.run(delay(options.command, options.seconds))
    asyncio.run(crowd(options.command, options.seconds))


if __name__ == "__main__":
    main()
