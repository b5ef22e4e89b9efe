# The few things people type. `make` alone lists them.

.PHONY: help setup run test check format house

help:
	@echo "make setup    install the project and what its tests need into this environment"
	@echo "make run      drive the embedded world: prints a URL"
	@echo "make test     all tests that need no GPU"
	@echo "make check    what is told in a minute: style, types, the shape of the house"
	@echo "make format   put the code into shape"
	@echo "make house    the house in numbers"

setup:
	pip install -e '.[test]'

run:
	bash run_interactive.sh

test:
	pytest

check:
	ruff check .
	ruff format --check .
	mypy
	pytest -q tests/test_layering.py tests/test_house.py tests/test_readme.py

format:
	ruff check --fix .
	ruff format .

house:
	python -m tests.house
