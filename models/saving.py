"""Writing safetensors: whole or not at all."""

import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from configs.errors import UserError


def save_tensors(
    file: Path,
    tensors: Mapping[str, Tensor],
    metadata: dict[str, str] | None = None,
    private: bool = False,
    overwrite: bool = True,
) -> None:
    """Write a safetensors file whole or not at all: a temporary file beside it, then a rename.
    private: nobody else may read it (mode 0600), and it is on the disk before it has its name.
    Raises UserError; without ``overwrite`` also for a file that came there meanwhile."""
    begun = os.fsdecode(os.fsencode(file.name)[:200])  # a name has 255 bytes at most
    temporary = file.with_name(f".{begun}.{secrets.token_hex(4)}")
    try:
        save_file(
            {name: tensor.contiguous() for name, tensor in tensors.items()}, temporary, metadata
        )
        if private:
            temporary.chmod(0o600)
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
        if overwrite:
            temporary.replace(file)
        else:
            _name(temporary, file)
    except FileExistsError:
        raise UserError(f"{file}: the file exists already") from None
    except (OSError, SafetensorError) as error:
        raise UserError(f"{file}: cannot be written ({_reason(error)})") from error
    finally:
        temporary.unlink(missing_ok=True)


def _reason(error: Exception) -> str:
    """Why, without the words around it that a library adds."""
    said = getattr(error, "strerror", None) or str(error)
    return re.sub(r"^.*I/O error: | \(os error \d+\).*$", "", said)[:200]


def _name(temporary: Path, file: Path) -> None:
    """Give a whole file its name, unless there is one. Raises FileExistsError."""
    try:
        os.link(temporary, file)
    except FileExistsError:
        raise
    except OSError:  # a file system without links: the check before has to do
        temporary.replace(file)
