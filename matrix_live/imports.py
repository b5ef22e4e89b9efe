"""For other people's programs: importing this makes the project's packages importable, behind all that
is there already, or says in one line whose package is in the way.

    import matrix_live.imports
    from pipeline.clients.client import connect
"""

import sys
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from matrix_live.house import HOUSE, NAMES


def _place(name: str) -> Path | None:
    """Where ``import name`` leads, if anywhere. A folder of data is no package."""
    loaded = sys.modules.get(name)
    spec: ModuleSpec | None = loaded.__spec__ if loaded else PathFinder.find_spec(name)
    return Path(spec.origin).resolve() if spec and spec.origin else None


def _make_importable() -> None:
    """Raises ImportError when one of our packages' names means something else in this process."""
    for name in NAMES:
        place = _place(name)
        if place is not None and HOUSE not in place.parents:
            raise ImportError(
                f"the-matrix-live needs its own package {name!r}, and in this process that name is "
                f"{place}; use the program the-matrix (or another process, from another folder), or "
                "rename that one"
            )
    if str(HOUSE) not in sys.path:
        sys.path.append(str(HOUSE))  # last: what others import stays what it was


_make_importable()
