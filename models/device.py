"""The one place that picks devices, number formats, thread counts and the kernels that suit a
device."""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from configs.errors import UserError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def pick_device(name: str = "auto") -> torch.device:
    """Return the device called `name`: "auto" (CUDA if there is one), "cpu", "cuda" or "cuda:N".

    Raises UserError when the device does not exist on this machine.
    """
    present = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda", 0) if present else torch.device("cpu")
    if name == "cpu":
        return torch.device("cpu")
    kind, _, number = name.partition(":")
    if kind != "cuda" or (number and not (number.isascii() and number.isdecimal())):
        raise UserError(f"device {name[:40]!a}: expected auto, cpu, cuda or cuda:N")
    index = int(number or 0)
    if index >= present:
        raise UserError(
            f"device {name}: this machine has {present} CUDA devices; use cpu or an index below that"
        )
    return torch.device("cuda", index)


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """Return the number format called `name`; "auto" is bfloat16 on CUDA and float32 on a CPU."""
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if name not in DTYPES:
        raise UserError(f"dtype {str(name)[:40]!a}: expected auto, {', '.join(DTYPES)}")
    return DTYPES[name]


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 matrices faster than float32 ones: CUDA, a CPU with AMX
    or AVX512-BF16."""
    return (
        device.type == "cuda"
        or torch.cpu._is_amx_tile_supported()
        or torch.cpu._is_avx512_bf16_supported()
    )


def pick_decoder_dtype(name: str, device: torch.device) -> torch.dtype:
    """Return what a tiny decoder computes in: "auto" is bfloat16 wherever that is faster, also on a
    CPU.

    On a CPU with AMX units that takes a third of the time, with AVX512-BF16 half of it. Frames have
    eight bits and nothing is fed back from them; the transformer, whose output is its next input,
    stays in float32 there."""
    return torch.bfloat16 if name == "auto" and has_bfloat16(device) else pick_dtype(name, device)


@contextmanager
def mixed_precision(device: torch.device) -> Iterator[None]:
    """Within the block, matrices are multiplied in bfloat16 where that is faster; weights keep
    theirs. For training.

    That is any CUDA device, and a CPU with bfloat16 units: with AMX an autoencoder step takes a
    third of the time, where such units are missing ten times as long. Attention is then spelled out
    on a CPU: PyTorch's fused bfloat16 kernel takes three times as long backwards as plain matrix
    products do.
    """
    fast = has_bfloat16(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=fast):
        if device.type == "cuda" or not fast:
            yield
            return
        before = torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed()
        torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)
        try:
            with sdpa_kernel(SDPBackend.MATH):
                yield
        finally:
            torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(before)


def use_threads(count: int | None = None) -> int:
    """Bind torch to `count` CPU threads (all cores of this process when None) and return the
    number.

    One thread per rank keeps results byte-identical from run to run, whatever the machine's core
    count."""
    number = count or len(os.sched_getaffinity(0))
    torch.set_num_threads(number)
    return number


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Within the block, torch computes with `count` CPU threads; the caller's number is kept."""
    before = torch.get_num_threads()
    use_threads(count)
    try:
        yield
    finally:
        use_threads(before)


def synchronise(device: torch.device) -> None:
    """Wait until everything queued on `device` is done (timing needs it); a CPU has nothing to wait
    for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def tanh_gelu(x: Tensor) -> Tensor:
    """Return GELU in its tanh form, x (1 + tanh u) / 2 with u = sqrt(2/pi) (x + 0.044715 x^3).

    PyTorch's CPU kernel computes that tanh slowly; without gradients the equal x sigmoid(2 u) takes
    half the time."""
    if x.device.type != "cpu" or torch.is_grad_enabled():
        return F.gelu(x, approximate="tanh")
    twice = 2 * math.sqrt(2 / math.pi)
    return (x * x).mul_(0.044715 * twice).add_(twice).mul_(x).sigmoid_().mul_(x)


def gpu_names() -> list[str]:
    """What the visible GPUs are called."""
    return [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
