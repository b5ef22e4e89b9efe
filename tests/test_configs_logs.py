"""A logger for each package: heard from the chosen level on, and no longer than asked."""

import io
import logging

import pytest

from configs.logs import LEVELS, PACKAGES, SHAPE, listening, set_level

pytestmark = pytest.mark.usefixtures("levels")


@pytest.mark.parametrize("level", LEVELS)
def test_every_package_is_heard_from_the_level_on(level: str) -> None:
    heard = io.StringIO()
    handler = logging.StreamHandler(heard)
    handler.setFormatter(SHAPE)
    set_level(level)
    with listening(handler):
        for package in PACKAGES:
            for number, name in enumerate(LEVELS):
                logging.getLogger(f"{package}.part").log(10 * (number + 1), "said %s", name)
    logging.getLogger("models.part").error("after it ended")
    words = [line.split("said ")[1] for line in heard.getvalue().splitlines()]
    assert words == [*LEVELS[LEVELS.index(level) :]] * len(PACKAGES)
    assert " models.part: said error" in heard.getvalue()
