"""The version is the one that is installed, from every door."""

from importlib import metadata

import pytest

import configs.version
import the_matrix
from pipeline.__main__ import version


def test_every_door_says_the_installed_version() -> None:
    installed = metadata.version("the-matrix-live")
    assert the_matrix.__version__ == configs.version.installed_version() == installed
    assert f" {installed}, Python" in version()


def test_a_checkout_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("configs.version.DISTRIBUTION", "not-installed-anywhere")
    assert configs.version.installed_version() == "0+checkout"
