"""``python -m pipeline COMMAND``: one parser per command, loaded when asked for; bad input is one
line, exit code 2."""

import argparse
import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from configs.errors import UserError
from configs.load import nearest


@dataclass(frozen=True)
class Command:
    """Where a command lives (``module`` offers ``add_arguments(parser)`` and ``main(args)``) and
    how to explain it."""

    module: str
    purpose: str
    examples: str
    add_arguments: str = "add_arguments"
    main: str = "main"


COMMANDS = {
    "run": Command(
        "pipeline.commands.run",
        "Drive a live world: starts the workers, prints a URL, streams at 16 frames a second.",
        """\
  python -m pipeline run                                        drive the embedded world in the browser
  python -m pipeline run --prompt "A red car in snow at night"  another start
  python -m pipeline run --headless --duration 10 --controls "D*16,DL*8,DR*16" --record drive.mp4
  python -m pipeline run --config configs/stage4.yaml           the published weights on four GPUs
  NUM_GPUS_DIT=2 NUM_GPUS_VAE=2 python -m pipeline run          two transformer ranks, two decoder shards""",
        "add_run_arguments",
        "run_main",
    ),
    "dit": Command(
        "pipeline.commands.run",
        "Run the transformer group alone and print latents per second, until Ctrl-C.",
        """\
  python -m pipeline dit                                        one rank, default weights
  python -m pipeline dit --ranks 2 --model-path models/stage4   two ranks""",
        "add_dit_arguments",
        "dit_main",
    ),
    "base": Command(
        "pipeline.commands.base",
        "Stage 2: a video of up to 4 s from a prompt and a control signal.",
        """\
  python -m pipeline base --prompt "A car on a desert road" --output base.mp4
  python -m pipeline base --prompt "..." --controls "D*9,DL*8" --steps 20 --seed 7 --output left.mp4""",
    ),
    "stream": Command(
        "pipeline.commands.stream",
        "Stages 3 and 4: continue a video for as long as you like, offline.",
        """\
  python -m pipeline stream --prompt "A car on a desert road" --init-video base.mp4 --sample-groups 32 --output long.mp4
  python -m pipeline stream --stage 3 --prompt "..." --controls "D*20,DR*20" --output drive.mp4""",
    ),
    "play": Command(
        "pipeline.commands.play",
        "Drive any program that speaks the frame protocol of docs/protocol.md, such as the training simulator.",
        """\
  python -m pipeline play -- python -m training.driving_world --pipe     the simulator the small world learned from""",
    ),
    "bench": Command(
        "pipeline.commands.bench",
        "Measure this machine: attention, models, live delay, loading.",
        """\
  python -m pipeline bench                                      everything, a few minutes
  python -m pipeline bench live --seconds 60 --json live.json   the live split only""",
    ),
}


class Parser(argparse.ArgumentParser):
    """argparse whose complaints are one line, and that names the option you meant."""

    def __init__(self, **settings: object) -> None:
        settings.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **settings)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """All of ``arguments``, or UserError for the first that is unknown."""
        parsed, unknown = self.parse_known_args(arguments)
        for word in unknown:
            options = [option for option in self._option_string_actions if option.startswith("--")]
            self.error(
                f"unknown argument {word.split('=')[0]!r}"
                + (nearest(word, options) if word[:2] == "--" else "")
            )
        return parsed


def overview() -> str:
    """The help of ``python -m pipeline`` itself."""
    lines = [f"  {name:<8}{command.purpose}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: python -m pipeline COMMAND [options]",
            "",
            "commands",
            *lines,
            "",
            "python -m pipeline COMMAND --help explains one of them, with examples.",
        ]
    )


def run(arguments: Sequence[str]) -> int:
    """Run one command; UserError for bad input."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(overview())
        return 0
    name = arguments[0]
    if name not in COMMANDS:
        raise UserError(
            f"unknown command {name!r}{nearest(name, COMMANDS)}; see python -m pipeline --help"
        )
    command = COMMANDS[name]
    module = importlib.import_module(command.module)
    parser = Parser(
        prog=f"python -m pipeline {name}",
        description=command.purpose,
        epilog=f"examples\n{command.examples}",
    )
    getattr(module, command.add_arguments)(parser)
    return getattr(module, command.main)(parser.parse(arguments[1:]))


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 well, 2 bad input, 1 a file or disk that failed (one line each on stderr),
    130 Ctrl-C."""
    try:
        return run(sys.argv[1:] if arguments is None else arguments)
    except UserError as error:
        print("error: " + " ".join(str(error).split()), file=sys.stderr)
        return 2
    except OSError as error:
        print("error: " + " ".join(str(error).split()), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
