"""Every command and every option says what it is for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import typer.main

from orchestrator.cli import app


def commands(group: Any, path: str) -> Iterator[tuple[str, Any]]:
    yield path, group
    if hasattr(group, "commands"):
        for name, command in group.commands.items():
            yield from commands(command, f"{path} {name}")


EVERY = dict(commands(typer.main.get_command(app), "orchestrator"))


def test_there_are_commands():
    assert len(EVERY) > 30
    assert {"orchestrator status", "orchestrator dead-letters replay"} <= set(EVERY)


@pytest.mark.parametrize("name", EVERY)
def test_each_command_and_each_of_its_options_is_described(name):
    command = EVERY[name]
    assert command.help and len(command.help) > 10
    for parameter in command.params:
        if parameter.name in ("install_completion", "show_completion"):
            continue
        told = getattr(parameter, "help", None)
        assert told and len(told) > 5, f"{name}: {parameter.name} has no description"


@pytest.mark.parametrize("name", EVERY)
def test_no_option_takes_a_secret(name):
    """The process list shows arguments to everyone on the machine."""
    for parameter in EVERY[name].params:
        assert not {"token", "password", "secret", "private_key"} & {parameter.name}
