"""Every command that a runbook names exists, with these options, and nothing that it demands is
left out; and each page says what of it was tried."""

from __future__ import annotations

import re
import shlex

import pytest

from tests.commands.test_help import EVERY
from tests.tidy.project import ROOT

PAGES = sorted((ROOT / "docs/runbooks").glob("*.md"))
COMMAND = re.compile(r"`(orchestrator [^`]+)`|^(orchestrator [^#|\n]+)", re.M)


def commands(text: str) -> list[list[str]]:
    found = [one or two for one, two in COMMAND.findall(text)]
    filled = [re.sub(r"<[^>]+>", "VALUE", words).replace("…", "WHY") for words in found]
    return [shlex.split(words) for words in filled]


def problem_of(words: list[str]) -> str | None:
    name = " ".join(words[:2])
    if f"{name} {''.join(words[2:3])}" in EVERY:
        name = f"{name} {words[2]}"
    command = EVERY.get(name)
    if command is None:
        return f"{name} is no command"
    if hasattr(command, "commands") and not command.invoke_without_command:
        return f"{name} wants a subcommand"
    known = {
        option: item for item in command.params for option in (*item.opts, *item.secondary_opts)
    }
    given = [word for word in words if word.startswith("--")]
    if strangers := [option for option in given if option not in known]:
        return f"{name} has no {strangers}"
    demanded = [item.opts[0] for item in command.params if item.required]
    options = [option for option in demanded if option.startswith("--")]
    if missing := [option for option in options if option not in given]:
        return f"{name} wants {missing}"
    values = sum(not known[option].is_flag for option in given)
    plain = len(words) - len(name.split()) - len(given) - values
    arguments = len(demanded) - len(options)
    takes = [item for item in command.params if not item.opts[0].startswith("--")]
    if plain < arguments or (plain and not takes):
        return f"{name} is given {plain} arguments"
    return None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_of_a_page_are_commands(page):
    named = commands(page.read_text(encoding="utf-8"))
    assert named
    assert [found for found in map(problem_of, named) if found] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_says_what_was_walked_through(page):
    if page.name != "README.md":
        assert "\nWalked through on the embedded stack: " in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "words",
    ["cancel m-1 --why x", "retry --request m-1", "nothing", "keys", "lanes --chains 1"],
)
def test_a_wrong_one_is_found(words):
    assert problem_of(["orchestrator", *words.split()])
