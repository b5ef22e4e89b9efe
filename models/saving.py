"""Writing safetensors: whole or not at all."""

import os
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
) -> None:
    """Write a safetensors file whole or not at all: a temporary file beside it, then a rename.
    private: nobody else may read it (mode 0600), and it is on the disk before it has its name."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        save_file(
            {name: tensor.contiguous() for name, tensor in tensors.items()}, temporary, metadata
        )
        if private:
            temporary.chmod(0o600)
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
        temporary.replace(file)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{file}: cannot be written ({str(error)[:200]})") from error
    finally:
        temporary.unlink(missing_ok=True)
