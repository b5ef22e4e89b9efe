"""Writing safetensors: whole or not at all."""

import os
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from configs.errors import UserError


def save_tensors(
    file: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write a safetensors file whole or not at all: a temporary file beside it, then a rename."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        save_file(
            {name: tensor.contiguous() for name, tensor in tensors.items()}, temporary, metadata
        )
        temporary.replace(file)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{file}: cannot be written ({str(error)[:200]})") from error
    finally:
        temporary.unlink(missing_ok=True)
