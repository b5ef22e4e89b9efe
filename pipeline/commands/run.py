"""``python -m pipeline run`` and ``dit``: a live world with its page, and the DiT group alone."""

import argparse
import asyncio
import json
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from configs.limits import whole_number
from configs.load import load
from configs.schema import RunConfig
from pipeline.console import Console
from pipeline.signals import Supervisor, leave

if TYPE_CHECKING:
    from pipeline.launch import Plan
    from pipeline.stage.show import Show
    from pipeline.web.gateway import Gateway

STATS_SECONDS: Final = 10.0
LEAST_STEPS: Final = 3  # before the DiT group's first line of figures


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``run``. Environment: NUM_GPUS_DIT, NUM_GPUS_VAE, MODEL_PATH,
    CUDA_VISIBLE_DEVICES."""
    world = parser.add_argument_group("the world")
    world.add_argument(
        "--prompt",
        metavar="TEXT",
        help="what it looks like (default: the first preset of the weights)",
    )
    world.add_argument(
        "--seed",
        metavar="N",
        help="0 to 2^53 - 1; the same seed and controls make the same frames (42)",
    )
    _add_weights(world)
    drive = parser.add_argument_group("the drive")
    drive.add_argument(
        "--controls",
        metavar="SIGNAL",
        help='labels to follow, one per latent (250 ms): "D*16,DL*8,DR*8"',
    )
    drive.add_argument(
        "--replay", metavar="FILE.jsonl", help="follow a control log again, frame for frame"
    )
    drive.add_argument(
        "--duration", metavar="SECONDS", help="end after so many seconds of shown stream"
    )
    drive.add_argument(
        "--headless",
        action="store_true",
        default=None,
        help="no page; ends with the controls or duration",
    )
    page = parser.add_argument_group("the page")
    page.add_argument("--host", metavar="ADDRESS", help="address to listen on (127.0.0.1)")
    page.add_argument("--port", metavar="N", help="port to listen on (8000; 0 = any free one)")
    page.add_argument(
        "--allow-host",
        metavar="NAME",
        help="further names of this machine, as a reverse proxy may have; with commas",
    )
    page.add_argument("--tls-cert", metavar="FILE.pem", help="certificate chain, for https")
    page.add_argument("--tls-key", metavar="FILE.pem", help="its private key")
    files = parser.add_argument_group("files")
    files.add_argument(
        "--record", metavar="FILE.mp4", help="record all frames, and their control log beside it"
    )
    files.add_argument("--control-log", metavar="FILE.jsonl", help="write the control log there")
    files.add_argument("--summary", metavar="FILE.json", help="write the figures of the run there")
    files.add_argument(
        "--config", metavar="FILE.yaml", help="settings by name; flags and environment win over it"
    )
    files.add_argument(
        "--json-logs", action="store_true", default=None, help="log lines as JSON objects"
    )


def add_dit_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``dit``."""
    parser.add_argument(
        "--ranks",
        metavar="N",
        help="transformer ranks: GPUs, or CPU processes without any (NUM_GPUS_DIT)",
    )
    parser.add_argument(
        "--prompt",
        metavar="TEXT",
        help="text of the world (default: the first preset of the weights)",
    )
    parser.add_argument("--seed", metavar="N", help="0 to 2^53 - 1 (42)")
    parser.add_argument(
        "--duration",
        metavar="SECONDS",
        help="end after so many seconds of running (default: Ctrl-C)",
    )
    _add_weights(parser)


def _add_weights(group: "argparse._ActionsContainer") -> None:
    group.add_argument(
        "--model-path",
        metavar="DIR",
        help="weight folder (MODEL_PATH; default models/stage4, else embedded)",
    )
    group.add_argument(
        "--base-model-path", metavar="DIR", help="folder of what a transformer-only folder lacks"
    )
    group.add_argument("--lora", metavar="FILE", help="safetensors file fused into the transformer")
    group.add_argument(
        "--vae",
        nargs=2,
        metavar=("tiny", "FILE"),
        help="a TAECVX file in place of the folder's decoder",
    )
    group.add_argument(
        "--clip", metavar="DIR", help="local CLIP folder, for weights without control embeddings"
    )
    group.add_argument(
        "--ray-address", metavar="HOST:PORT", help="use this Ray cluster and leave it running"
    )


def run_main(args: argparse.Namespace) -> int:
    """Drive a live world; the exit code: 0, 128 + signal, or 1 after a fault that could not be
    mended."""
    begun = time.monotonic()
    flags = {name: value for name, value in vars(args).items() if name != "config"}
    config = load(RunConfig, flags, None if args.config is None else Path(args.config))
    console = Console(config.json_logs)
    from pipeline.launch import (
        Plan,  # the models' libraries take seconds: bad flags are told before
    )

    plan = Plan.make(config)
    return finish(asyncio.run(_run(plan, console, begun)))


def dit_main(args: argparse.Namespace) -> int:
    """Run the DiT group alone and print its speed."""
    flags = {name: value for name, value in vars(args).items() if name != "ranks"}
    config = load(RunConfig, {**flags, "num_gpus_dit": args.ranks})
    whole_number("ranks", config.num_gpus_dit or 1, 1, 999)
    return finish(asyncio.run(_dit(config, Console(config.json_logs))))


async def _run(plan: "Plan", console: Console, begun: float) -> int:
    from pipeline.launch import summary, write_whole

    config = plan.config
    session = plan.session()
    show = plan.show(session)
    gateway = open_gateway(show, config)
    plan.open_files(show)
    _banner(plan, console)
    try:
        return await perform(show, gateway, console)
    finally:
        if config.summary is not None:
            write_whole(config.summary, json.dumps(summary(show, session, begun), indent=2) + "\n")
        for path in (config.record, config.control_log, config.summary):
            if path is not None and path.exists():
                console.result(path)


def open_gateway(show: "Show", config: RunConfig) -> "Gateway | None":
    """The page of a show, its port bound but not yet served; None for a headless run."""
    from pipeline.web.gateway import Gateway
    from pipeline.web.metrics import registry

    if config.headless:
        return None
    tls = (config.tls_cert, config.tls_key) if config.tls_cert and config.tls_key else None
    token = config.token or secrets.token_urlsafe(24)
    return Gateway(
        show,
        host=config.host,
        port=config.port,
        names=config.allow_host,
        token=token,
        tls=tls,
        registry=registry(show),
    )


async def perform(show: "Show", gateway: "Gateway | None", console: Console) -> int:
    """Play a show with its page until it ends or a signal comes; the exit code, 1 after a fault
    beyond repair."""

    async def work() -> None:
        telling = asyncio.create_task(_tell(show, console))
        counting = asyncio.create_task(_count(show, console))
        try:
            if gateway is not None:
                await gateway.start()
                console.say("url", f"open {gateway.url}", url=gateway.url)
            await show.run()
        finally:
            counting.cancel()
            await telling
            if gateway is not None:
                await gateway.close()

    try:
        return await Supervisor(show.stop).run(work())
    except RuntimeError as error:
        console.say("error", f"the run ended: {error}")
        return 1
    finally:
        if show.figures.frames:
            console.stats(show.stats())


def _banner(plan: "Plan", console: Console) -> None:
    if plan.note:
        console.say("model", plan.note)
    info = plan.info
    console.say(
        "model",
        f"model {info.name} ({info.model_hash[:12]}), {info.width}x{info.height}, seed {plan.seed}",
    )
    console.say("devices", f"devices: {plan.layout}")


async def _tell(show: "Show", console: Console) -> None:
    """Say stages and notices until the show ends."""
    subscription = show.subscribe(viewer=False)
    first = True
    while await subscription.wait():
        subscription.frame()
        for event in subscription.events():
            console.hear(event)
        if first and show.figures.frames:
            first = False
            console.say("stage", "playing: first frame shown")


async def _count(show: "Show", console: Console) -> None:
    while True:
        await asyncio.sleep(STATS_SECONDS)
        if show.figures.frames:
            console.stats(show.stats())


async def _dit(config: RunConfig, console: Console) -> int:
    from actors.cluster import Layout, visible_gpus
    from actors.records import Weights
    from actors.solo import latents
    from configs.load import model_folder
    from pipeline.launch import DEFAULT_PROMPT, check_layout, open_checkpoint
    from pipeline.stage.pacing import percentile

    folder, note = model_folder(config.model_path)
    checkpoint = open_checkpoint(config, folder)
    layout = Layout.plan(config.num_gpus_dit, 0, visible_gpus(config.visible_devices))
    check_layout(checkpoint, layout)
    window = checkpoint.streaming.window_size
    console.say("model", note or f"model: {folder}")
    stream = latents(
        Weights(folder, config.base_model_path, config.vae, config.lora),
        layout,
        seed=config.seed,
        prompt=config.prompt or next(iter(checkpoint.presets), DEFAULT_PROMPT),
        window=window,
        address=config.ray_address,
        say=lambda text: console.say("stage", text),
    )

    async def work() -> None:
        steps: list[float] = []
        begun = told = None
        try:
            async for step, _ in stream:
                now = time.monotonic()
                begun, told = begun or now, told or now
                steps.append(step)
                over = config.duration is not None and now - begun >= config.duration
                if (now - told >= 1.0 and len(steps) >= LEAST_STEPS) or over:
                    speed = (len(steps) - 1) * window / (now - begun)
                    middle, high = (1000 * percentile(steps, percent) for percent in (50, 95))
                    text = f"{speed:.2f} latents/s, step p50 {middle:.1f} ms, p95 {high:.1f} ms"
                    console.say(
                        "speed",
                        text,
                        latents_per_second=speed,
                        step_ms={"p50": middle, "p95": high},
                    )
                    begun, told, steps = now, now, steps[-1:]
                if over:
                    return
        finally:
            await stream.aclose()

    task = asyncio.create_task(work())

    def stop(reason: str) -> None:
        task.cancel()

    return await Supervisor(stop).run(task)


def finish(code: int) -> int:
    """After a signal, end at once: a thread may still wait for a cluster that is gone."""
    if code > 128:
        leave(code)
    return code
