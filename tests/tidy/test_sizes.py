"""Lines, functions and files that can be read in one sitting, and no traces of a machine."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.tidy.project import ROOT, files, python_files, text_of

LONGEST_LINE = 100
LONGEST_FUNCTION = 70
PRAGMA = re.compile(r"  # (noqa|type: ignore).*$")
"""What tools are told does not count, as in ruff."""
LONGEST_FILE = 400
LONGEST_TEST_FILE = 450

# Written in halves, so that this file is no finding of its own.
TRACES = {
    "a package registry's host": r"(registry\."
    + r"(npm|yarn)|py"
    + r"pi\.|python"
    + r"hosted|npm"
    + r"mirror)[a-z]*\.?(org|com|js)",
    "a Maven host": r"(repo1?\.maven\.|maven-central\.)" + r"[a-z.]+",
    "an absolute path of a machine": r"(?<![\w.-])/(" + "work|home/[a-z]|root|Users" + r")/[\w.-]+",
    "a private address": r"\b(10\.\d{1,3}|192\.168|172\.(1[6-9]|2\d|3[01]))\.\d{1,3}\.\d{1,3}\b",
}


@pytest.mark.parametrize("path", python_files(), ids=str)
def test_lines_and_files_of_python_are_short(path):
    lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
    long = [n for n, line in enumerate(lines, 1) if len(PRAGMA.sub("", line)) > LONGEST_LINE]
    assert long == [], f"{path}: lines {long}"
    most = LONGEST_TEST_FILE if path.parts[0] == "tests" else LONGEST_FILE
    assert len(lines) <= most, f"{path} has {len(lines)} lines"


def lengths(path: Path) -> list[tuple[str, int]]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [
        (node.name, (node.end_lineno or 0) - node.lineno + 1)
        for node in ast.walk(tree)
        if isinstance(node, functions)
    ]


@pytest.mark.parametrize("path", [p for p in python_files() if p.parts[0] != "tests"], ids=str)
def test_functions_are_short(path):
    long = [(name, length) for name, length in lengths(path) if length > LONGEST_FUNCTION]
    assert long == [], f"{path}: {long}"


@pytest.mark.parametrize("trace", TRACES)
def test_no_file_names_a_registry_or_a_machine(trace):
    found = []
    for path in files():
        text = text_of(path) or ""
        found += [f"{path}: {match.group()}" for match in re.finditer(TRACES[trace], text)]
    assert found == [], f"{trace}: {found[:10]}"


def test_locks_name_no_registry():
    for path in files():
        if path.name in ("package-lock.json", "requirements-dev.txt"):
            text = text_of(path) or ""
            assert '"resolved"' not in text, path
            assert "--index-url" not in text, path


def test_text_files_end_with_one_newline_and_have_no_trailing_blanks():
    for path in files():
        if path.suffix in (".py", ".cjs", ".toml", ".example") or path.name == "Makefile":
            text = text_of(path) or ""
            assert text == "" or (text.endswith("\n") and not text.endswith("\n\n")), path
            assert not re.search(r"[ \t]+$", text, re.MULTILINE), path
