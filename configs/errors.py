"""The one error a person can cause and mend, and how a command tells of it."""

import functools
import sys
from collections.abc import Callable
from typing import ParamSpec

Arguments = ParamSpec("Arguments")


class UserError(ValueError):
    """Bad input from outside (flag, environment, file, weights, prompt, control signal).

    The message is one line that says what was expected, what came and what to do. Command lines
    print it as ``error: <message>`` on stderr and exit with code 2; the web gateway sends it as an
    error message."""


def one_line_errors(main: Callable[Arguments, int]) -> Callable[Arguments, int]:
    """A command's ``main`` that ends with one line on stderr: exit code 2 on bad input, 1 for a file
    or a disk that failed; 130 on Ctrl-C, without a line."""

    @functools.wraps(main)
    def telling(*arguments: Arguments.args, **named: Arguments.kwargs) -> int:
        try:
            return main(*arguments, **named)
        except UserError as error:
            print("error: " + " ".join(str(error).split()), file=sys.stderr)
            return 2
        except OSError as error:
            print("error: " + " ".join(str(error).split()), file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            return 130

    return telling
