"""Nothing that the launcher keeps lies in Ray's shared memory."""

import numpy as np

from actors.owned import owned
from actors.records import LatentChunk, Slice


def borrowed(*shape: int) -> np.ndarray:
    """An array in memory of somebody else, read-only, as Ray gives them."""
    return np.frombuffer(bytes(range(24)), np.uint8).reshape(shape)


def test_arrays_of_records_are_copied_and_the_same() -> None:
    part = owned(Slice(borrowed(1, 2, 4, 3), started=1.0, ended=2.0, processors=0.5))
    assert part.frames.flags.owndata and part.seconds == 1.0
    np.testing.assert_array_equal(part.frames, borrowed(1, 2, 4, 3))
    chunk = LatentChunk(3, borrowed(1, 2, 3, 4), bfloat16=False)
    assert owned(chunk).latents.flags.owndata and owned(chunk).index == 3


def test_what_is_ours_is_not_copied() -> None:
    ours = Slice(np.zeros((1, 2, 4, 3), np.uint8), 1.0, 2.0, 0.5)
    assert owned(ours) is ours and owned(None) is None and owned("text") == "text"
