"""What workers send, in memory of our own.

An array that came through Ray's shared memory lies there, and is given back when it goes. Where the
raylet has died meanwhile, Ray ends the process that gives one back, at once and without a word. So
nothing of it stays in the launcher longer than a copy takes.
"""

from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")


def owned(value: T) -> T:
    """The same array, or record of arrays and of other records, with copies of all arrays that lie
    in memory of others."""
    made: Any = value
    if isinstance(value, np.ndarray):
        made = value if value.flags.owndata else value.copy()
    elif is_dataclass(value) and not isinstance(value, type):
        held = {field.name: getattr(value, field.name) for field in fields(value)}
        ours = {name: owned(each) for name, each in held.items()}
        changed = {name: each for name, each in ours.items() if each is not held[name]}
        made = replace(value, **changed) if changed else value
    return made
