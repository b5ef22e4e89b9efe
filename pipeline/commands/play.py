"""``python -m pipeline play -- COMMAND``: drive any program that speaks the frame protocol, with
the same page."""

import argparse
import asyncio

from configs.limits import check_output_file
from configs.load import load
from configs.schema import RunConfig

NAMELESS = "a world without a prompt"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``play``."""
    parser.add_argument("--seed", metavar="N", help="seed of the program's world (default 42)")
    parser.add_argument("--prompt", metavar="TEXT", help="default: the program's first preset")
    parser.add_argument("--host", metavar="NAME", help="address to listen on (default 127.0.0.1)")
    parser.add_argument(
        "--port", metavar="N", help="port of the page (default 8000; 0 = any free one)"
    )
    parser.add_argument("--duration", metavar="S", help="end after so many seconds of shown stream")
    parser.add_argument(
        "--headless",
        action="store_true",
        default=None,
        help="no page: frames are consumed at 16 FPS",
    )
    parser.add_argument("--record", metavar="FILE", help="mp4 of every shown frame")
    parser.add_argument(
        "command", nargs="+", metavar="COMMAND", help="the program and its arguments, after --"
    )


def main(args: argparse.Namespace) -> int:
    """Play the program's world; the exit code."""
    flags = {name: value for name, value in vars(args).items() if name != "command"}
    config = load(RunConfig, flags, environment={})
    if config.record is not None:
        check_output_file(config.record, "--record")
        check_output_file(config.record.with_suffix(".jsonl"), "control log of --record")

    from pipeline.commands.run import finish

    return finish(asyncio.run(_play(config, args.command)))


async def _play(config: RunConfig, command: list[str]) -> int:
    from pipeline.commands.run import open_gateway, perform
    from pipeline.console import Console
    from pipeline.stage.program import Program
    from pipeline.stage.show import Show

    console = Console(config.json_logs)
    program = await Program.launch(command)
    try:
        prompt = config.prompt or next(iter(program.info.presets), NAMELESS)
        show = Show(program, seed=config.seed, prompt=prompt, duration=config.duration)
        gateway = open_gateway(show, config)
    except BaseException:
        await program.close()
        raise
    if config.record is not None:
        show.start_recording(config.record)
    console.say("model", f"program {program.info.name}, {program.info.width}x{program.info.height}")
    code = await perform(show, gateway, console)
    if config.record is not None and config.record.exists():
        console.result(config.record)
    return code
