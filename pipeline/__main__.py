"""``python -m pipeline COMMAND``: one parser per command, loaded when asked for; bad input is one
line, exit code 2."""

from configs.interrupts import importing

with importing():
    import argparse
    import importlib
    import os
    import platform
    import signal
    import sys
    from collections.abc import Sequence
    from importlib import metadata
    from pathlib import Path
    from types import ModuleType
    from typing import Final, NoReturn

    from configs.errors import UserError
    from configs.load import ROOT, nearest
    from configs.streams import open_streams
    from configs.version import installed_version

PROGRAM: Final = "the-matrix"  # the command that is installed
# Each is a module of pipeline/commands: PURPOSE, EXAMPLES, add_arguments(parser) and main(args).
COMMANDS: Final = ("run", "dit", "base", "stream", "play", "bench", "plan", "doctor")


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


def program() -> str:
    """How this was called."""
    return PROGRAM if Path(sys.argv[0]).name == PROGRAM else "python -m pipeline"


def version() -> str:
    """One line: what is installed, and what it runs on."""
    parts = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "ray"))
    return f"{PROGRAM} {installed_version()}, Python {platform.python_version()}, {parts}"


def command(name: str) -> ModuleType:
    """The module of a command. They are light: what takes seconds to import they import in
    ``main``, after the flags were read."""
    return importlib.import_module(f"pipeline.commands.{name}")


def parser_of(name: str) -> Parser:
    """The parser of a command, with its help and examples."""
    module = command(name)
    parser = Parser(
        prog=f"{program()} {name}",
        description=module.PURPOSE,
        epilog=f"examples\n{module.EXAMPLES}",
    )
    module.add_arguments(parser)
    return parser


def overview() -> str:
    """The help of ``python -m pipeline`` itself."""
    lines = [f"  {name:<8}{command(name).PURPOSE}" for name in COMMANDS]
    return "\n".join(
        [
            f"usage: {program()} COMMAND [options]",
            "",
            "commands",
            *lines,
            "",
            f"{program()} COMMAND --help explains one of them, with examples.",
        ]
    )


def run(arguments: Sequence[str]) -> int:
    """Run one command; UserError for bad input."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(overview())
        return 0
    if arguments[0] == "--version":
        print(version())
        return 0
    name = arguments[0]
    if name not in COMMANDS:
        raise UserError(
            f"unknown command {name!r}{nearest(name, COMMANDS)}; see {program()} --help"
        )
    check_folder()
    code: int = command(name).main(parser_of(name).parse(arguments[1:]))
    return code


def missing(package: str) -> str:
    """One line for a Python that lacks one of our packages, as that of a shell does where the
    virtual environment is not active."""
    return (
        f"the package {package!r} is not installed for {sys.executable}: activate the virtual "
        "environment of this project, or install into this one: pip install -e . in the checkout"
    )


def check_folder() -> None:
    """Raise UserError where the current folder was deleted: libraries that look for it there end the
    process by themselves, with a line about something else."""
    try:
        os.getcwd()
    except FileNotFoundError:
        raise UserError(
            "the current folder was deleted, perhaps to be made anew; go there again, or to "
            "another one (cd)"
        ) from None


def nobody_reads() -> int:
    """Whoever read our output has left, as ``head`` does: no error. The exit code that SIGPIPE
    gives."""
    # the interpreter flushes once more when it ends
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 128 + signal.SIGPIPE


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 well, 2 bad input, 1 a file or disk that failed (one line each on stderr),
    130 Ctrl-C, 141 nobody reads what it prints."""
    open_streams()
    try:
        try:
            return run(sys.argv[1:] if arguments is None else arguments)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        return nobody_reads()
    except UserError as error:
        print("error: " + " ".join(str(error).split()), file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if not package or (ROOT / package).exists():
            raise  # a fault of ours
        print("error: " + missing(package), file=sys.stderr)
        return 2
    except OSError as error:
        print("error: " + " ".join(str(error).split()), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
