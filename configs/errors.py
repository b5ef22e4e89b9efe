"""The one error a person can cause and mend."""


class UserError(ValueError):
    """Bad input from outside (flag, environment, file, weights, prompt, control signal).

    The message is one line that says what was expected, what came and what to do. Command lines
    print it as ``error: <message>`` on stderr and exit with code 2; the web gateway sends it as an
    error message."""
