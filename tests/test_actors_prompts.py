"""The text worker's repair: what dies while it loads gets further attempts."""

import asyncio
from typing import Any, cast

import pytest

from actors.gang import Gang
from actors.groups import Groups
from actors.prompts import PromptReader
from actors.repair import DEATHS, Fault

DEAD = Fault(None, "text: a worker process died")


class Breaking:
    """Groups whose text worker dies ``deaths`` times while it is replaced."""

    lost = False

    def __init__(self, deaths: int) -> None:
        self.deaths = deaths
        self.replaced = 0

    async def replace_text(self, hung: Gang) -> None:
        if self.deaths:
            self.deaths -= 1
            raise DEAD
        self.replaced += 1


def replace(groups: Breaking) -> None:
    said: list[tuple[str, str]] = []
    reader = PromptReader(cast(Groups, groups), lambda kind, line: said.append((kind, line)))
    worker: Any = None
    asyncio.run(reader._replace(worker, DEAD))
    assert len(said) == 1, "one repair is told once"


def test_a_death_during_the_repair_is_mended_too() -> None:
    groups = Breaking(deaths=2)
    replace(groups)
    assert groups.replaced == 1


def test_one_that_never_loads_is_told() -> None:
    with pytest.raises(RuntimeError, match=r"cannot be replaced: \d failures"):
        replace(Breaking(deaths=DEATHS))
