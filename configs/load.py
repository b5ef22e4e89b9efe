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

ROOT = Path(__file__).resolve().parent.parent
VARIABLES = {
    "NUM_GPUS_DIT": "num_gpus_dit",
    "NUM_GPUS_VAE": "num_gpus_vae",
    "MODEL_PATH": "model_path",
    "CUDA_VISIBLE_DEVICES": "visible_devices",
    "MATRIX_TOKEN": "token",
}
WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,18})")
REAL = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]{1,3})?")
DEVICE = re.compile(r"[0-9]{1,3}|(GPU|MIG)-[A-Za-z0-9/-]{1,80}")

Settings = TypeVar("Settings")


def load(
    kind: type[Settings],
    flags: Mapping[str, object] | None = None,
    config: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Settings:
    """Build the settings dataclass ``kind``.

    flags: field name -> text, True, or None (not given), as argparse hands them over.
    config: a YAML file of field names; unknown and duplicate keys, tags and aliases are refused.
    environment: None means this process's own.
    """
    hints = typing.get_type_hints(kind)
    names = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    if config is not None:
        # a bare machine, measured before anything is installed, has no PyYAML
        from configs.yaml_file import read_yaml

        for key, value in read_yaml(config).items():
            if key not in names:
                raise UserError(f"config {config}: unknown key {key!r}{nearest(key, names)}")
            values[key] = _from_yaml(f"{config}: {key}", hints[key], value)
    for variable, text in (os.environ if environment is None else environment).items():
        name = VARIABLES.get(variable)
        if name in names and name is not None:
            values[name] = _from_text(variable, hints[name], name, text)
    for name, given in (flags or {}).items():
        if given is not None and name in names:
            values[name] = _from_text("--" + name.replace("_", "-"), hints[name], name, given)
    return kind(**values)


def nearest(word: str, allowed: Iterable[str]) -> str:
    """'; did you mean X?', or the list of what is allowed when nothing is close."""
    choices = sorted(allowed)
    close = difflib.get_close_matches(word, choices, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; allowed: {', '.join(choices)}"


def child_environment(**changes: str) -> dict[str, str]:
    """This process's environment with ``changes``, for processes we start."""
    return {**os.environ, **changes}


def visible_devices(text: str, where: str = "CUDA_VISIBLE_DEVICES") -> tuple[str, ...]:
    """The pool of GPUs: "0,2" -> ("0", "2"); empty, -1 and NoDevFiles mean none."""
    if text.strip() in ("", "-1", "NoDevFiles"):
        return ()
    devices = tuple(part.strip() for part in text.split(","))
    for device in devices:
        if not DEVICE.fullmatch(device):
            raise UserError(
                f"{where}: expected comma-separated GPU numbers such as 0,1,2, got {text[:60]!r}"
            )
    if len(set(devices)) < len(devices):
        raise UserError(f"{where}: expected each GPU once, got {text[:60]!r}")
    return devices


def _from_text(where: str, hint: Any, name: str, given: object) -> Any:
    """A flag's or a variable's value in the field's type. ``given`` is text, True, or a list (--vae
    KIND FILE)."""
    if isinstance(given, bool):
        return given
    if name == "vae":
        return _vae(where, given)
    text = str(given)
    kind = _plain(hint)
    if name == "visible_devices":
        return visible_devices(text, where)
    if name == "allow_host":
        return _host_names(text)
    if kind is int:
        if not WHOLE.fullmatch(text):
            raise UserError(f"{where}: expected a whole number such as 2, got {text[:60]!r}")
        return int(text)
    if kind is float:
        if not REAL.fullmatch(text):
            raise UserError(f"{where}: expected a number such as 60 or 0.5, got {text[:60]!r}")
        return float(text)
    return _path(where, text) if kind is Path else text


def _from_yaml(where: str, hint: Any, value: object) -> Any:
    """A YAML value checked against the field's type; nothing is converted silently."""
    kind = _plain(hint)
    if value is None:
        return None
    if isinstance(value, int) and value.bit_length() > 64:
        raise UserError(f"{where}: expected a number of at most 18 digits")
    if where.endswith(": vae"):
        return _vae(where, value)
    if where.endswith(": visible_devices"):
        return visible_devices(str(value), where)
    if where.endswith(": allow_host"):
        return _host_names(str(value))
    if kind is Path and isinstance(value, str):
        return _path(where, value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not kind:
        wanted = {int: "a whole number", float: "a number", bool: "true or false"}.get(kind, "text")
        raise UserError(f"{where}: expected {wanted}, got {str(value)[:60]!r}")
    return value


def _host_names(text: str) -> tuple[str, ...]:
    """Split ``a.lan, b.lan``; RunConfig checks the names."""
    return tuple(part.strip() for part in text.split(","))


def _vae(where: str, value: object) -> tuple[str, Path]:
    if not isinstance(value, list | tuple) or len(value) != 2 or value[0] != "tiny":
        raise UserError(f"{where}: expected 'tiny' and a TAECVX file, got {str(value)[:60]!r}")
    return "tiny", _path(where, str(value[1]))


def _path(where: str, text: str) -> Path:
    if not text.strip() or "\0" in text or text.startswith("-"):
        raise UserError(
            f"{where}: expected a path (./ before a name that starts with '-'), got {text[:60]!r}"
        )
    return Path(text).expanduser()


def _plain(hint: Any) -> Any:
    """int for ``int | None``; other types as they are."""
    if isinstance(hint, types.UnionType):
        return next(part for part in typing.get_args(hint) if part is not type(None))
    return hint
