"""The one door to flags and environment variables: with a YAML file (configs/yaml_file.py) they
become one frozen settings object, or one clear line.

Precedence: flags > environment > YAML file > defaults.
"""

import dataclasses
import difflib
import os
import re
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from configs.errors import UserError
from configs.limits import check_path
from configs.parsers import PARSER, Parser, file_path

ROOT = Path(__file__).resolve().parent.parent
VARIABLES = {
    "NUM_GPUS_DIT": "num_gpus_dit",
    "NUM_GPUS_VAE": "num_gpus_vae",
    "MODEL_PATH": "model_path",
    "CUDA_VISIBLE_DEVICES": "visible_devices",
    "MATRIX_TOKEN": "token",
}
# Looks at its peer before a thread of PyTorch's that waits falls asleep. GNU OpenMP's own 300 000 burn the
# core that the peer needs where other programs run too; none cost a quiet machine a sixth of its speed.
SPIN, WAIT, LOOKS = "GOMP_SPINCOUNT", "OMP_WAIT_POLICY", 20_000
EMPTY_MEANS = ("CUDA_VISIBLE_DEVICES",)  # no GPU; any other that is empty counts as not set
WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,18})")
REAL = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]{1,3})?")

Settings = TypeVar("Settings")


class _Door(typing.NamedTuple):
    """How a field is read: its plain type, and its own parser where it has one."""

    kind: Any
    parser: Parser | None


def environment_of(*names: str) -> dict[str, str]:
    """These variables alone of this process's environment, for ``load``."""
    return {name: os.environ[name] for name in names if name in os.environ}


def load(
    kind: type[Settings],
    flags: Mapping[str, object] | None = None,
    config: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Settings:
    """Build the settings dataclass ``kind``.

    flags: field name -> text, True, or None (not given), as argparse hands them over.
    config: a YAML file of field names, from here or of those that ship; unknown and
        duplicate keys, tags and aliases are refused.
    environment: None means this process's own.
    """
    doors = _doors(kind)
    values: dict[str, Any] = {}
    if config is not None:
        # a bare machine, measured before anything is installed, has no PyYAML
        from configs.yaml_file import read_yaml

        for key, value in read_yaml(shipped(config)).items():
            if key not in doors:
                raise UserError(f"config {config}: unknown key {key!r}{nearest(key, doors)}")
            values[key] = _from_yaml(f"{config}: {key}", doors[key], value)
    for variable, text in (os.environ if environment is None else environment).items():
        name = VARIABLES.get(variable)
        if name is not None and name in doors and (text or variable in EMPTY_MEANS):
            values[name] = _from_text(variable, doors[name], text)
    for name, given in (flags or {}).items():
        if given is not None and name in doors:
            values[name] = _from_text("--" + name.replace("_", "-"), doors[name], given)
    return kind(**values)


def shipped(path: Path) -> Path:
    """``path``, or what ships with the project under that name where nothing lies at ``path``."""
    ours = ROOT / check_path(path, "config")
    return ours if not path.exists() and ours.exists() else path


def nearest(word: str, allowed: Iterable[str]) -> str:
    """'; did you mean X?', or the list of what is allowed when nothing is close."""
    choices = sorted(allowed)
    close = difflib.get_close_matches(word, choices, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; allowed: {', '.join(choices)}"


def _home() -> Path:
    """This user's home folder; a user without one is at home where nothing can be written, as in a
    container."""
    try:
        return Path.home()
    except RuntimeError:
        return Path("/")


def cache_folder() -> Path:
    """Where this user's programs keep what they can make again (XDG_CACHE_HOME, ~/.cache)."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(home) if home.startswith("/") else _home() / ".cache") / "the-matrix-live"


def state_folder() -> Path:
    """Where this user's programs keep what must outlive them (XDG_STATE_HOME, ~/.local/state)."""
    home = os.environ.get("XDG_STATE_HOME", "")
    return (Path(home) if home.startswith("/") else _home() / ".local/state") / "the-matrix-live"


def spin_briefly() -> None:
    """Let threads that wait fall asleep soon, unless somebody chose otherwise. To be called before
    torch is imported, which reads it once (docs/experiments.md)."""
    if not {SPIN, WAIT} & os.environ.keys():
        os.environ[SPIN] = str(LOOKS)


def child_environment(**changes: str) -> dict[str, str]:
    """This process's environment with ``changes``, for processes we start."""
    return {**os.environ, **changes}


def _doors(kind: type) -> dict[str, _Door]:
    """How each field of a settings dataclass is read."""
    hints = typing.get_type_hints(kind)
    return {
        field.name: _Door(_plain(hints[field.name]), field.metadata.get(PARSER))
        for field in dataclasses.fields(kind)
    }


def _from_text(where: str, door: _Door, given: object) -> Any:
    """A flag's or a variable's value in the field's type. ``given`` is text, True, or a list (--vae
    KIND FILE)."""
    if isinstance(given, bool):
        return given
    if door.parser is not None:
        return door.parser(where, given)
    text, kind = str(given), door.kind
    if kind is int:
        if not WHOLE.fullmatch(text):
            raise UserError(f"{where}: expected a whole number such as 2, got {text[:60]!r}")
        return int(text)
    if kind is float:
        if not REAL.fullmatch(text):
            raise UserError(f"{where}: expected a number such as 60 or 0.5, got {text[:60]!r}")
        return float(text)
    return file_path(where, text) if kind is Path else text


def _from_yaml(where: str, door: _Door, value: object) -> Any:
    """A YAML value checked against the field's type; nothing is converted silently."""
    kind = door.kind
    if value is None:
        return None
    if isinstance(value, int) and value.bit_length() > 64:
        raise UserError(f"{where}: expected a number of at most 18 digits")
    if door.parser is not None:
        return door.parser(where, value)
    if kind is Path and isinstance(value, str):
        return file_path(where, value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not kind:
        wanted = {int: "a whole number", float: "a number", bool: "true or false"}.get(kind, "text")
        raise UserError(f"{where}: expected {wanted}, got {str(value)[:60]!r}")
    return value


def _plain(hint: Any) -> Any:
    """int for ``int | None``; other types as they are."""
    if isinstance(hint, types.UnionType):
        return next(part for part in typing.get_args(hint) if part is not type(None))
    return hint
