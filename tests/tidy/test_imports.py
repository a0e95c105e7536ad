"""The layout's import directions, and what the pure core may not touch."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from tests.tidy.project import ROOT, python_files

PACKAGES = ("schemas", "orchestrator", "streams", "projections", "tests")

ALLOWED = {
    "schemas": {"schemas"},
    "core": {"schemas", "core"},
    "orchestrator": {"schemas", "core", "orchestrator"},
    "adapters": {"schemas", "core", "ports", "adapters"},
    "dev": {"schemas", "core", "orchestrator", "ports", "adapters", "dev"},
    "streams": {"schemas", "core", "orchestrator", "ports", "adapters", "streams"},
    "projections": {"schemas", "core", "orchestrator", "ports", "projections"},
}
"""Room to rooms. `ports` are the modules that adapters need of `orchestrator`."""

PORTS = {
    "orchestrator.ports",
    "orchestrator.errors",
    "orchestrator.closing",
    "orchestrator.kafka_access",
    "orchestrator.kafka_clients",
    "orchestrator.metrics",
    "orchestrator.postgres_troubles",
}
ROOTS = {"orchestrator.cli", "orchestrator.__main__", "orchestrator.running"}
COMMANDS = "orchestrator.commands."
"""The command line starts every room, and only inside its commands: those imports are lazy."""


def is_root(module: str) -> bool:
    return module in ROOTS or module.startswith(COMMANDS)


OUTSIDE = {
    "schemas": {"pydantic", "orjson"},
    "core": {
        "cryptography",
        "eth_abi",
        "eth_account",
        "coincurve",
        "eth_keys",
        "eth_utils",
        "sha3",
    },
}
"""What the inner rooms may use besides the standard library."""

BANNED_IN_CORE = {
    "aiohttp",
    "asyncio",
    "io",
    "logging",
    "multiprocessing",
    "os",
    "pathlib",
    "random",
    "secrets",
    "shutil",
    "socket",
    "structlog",
    "subprocess",
    "tempfile",
    "threading",
    "time",
    "uuid",
}
BANNED_CALLS_IN_CORE = {"open", "print", "input", "eval", "exec", "id", "hash"}
CLOCKS = {"now", "utcnow", "today", "time", "monotonic", "perf_counter"}


def module_of(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str | None:
    """None for what is not ours."""
    first, *rest = module.split(".")
    if first not in PACKAGES:
        return None
    if first == "orchestrator" and rest and rest[0] in ("core", "adapters", "dev"):
        return rest[0]
    return first


def imports(tree: ast.AST) -> list[tuple[str, int]]:
    """Names of imported modules, with lines. `from a import b` gives a.b where that is a module."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 or node.module is not None, "relative imports hide the room"
            for alias in node.names:
                deeper = f"{node.module}.{alias.name}"
                is_module = (ROOT / deeper.replace(".", "/")).with_suffix(".py").exists()
                is_module = is_module or (ROOT / deeper.replace(".", "/")).is_dir()
                found.append((deeper if is_module else node.module or "", node.lineno))
    return found


def top_level(tree: ast.Module) -> list[tuple[str, int]]:
    """Imports that run when the module is imported: not in functions or for types."""
    kept = ast.Module(
        body=[
            node
            for node in tree.body
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            and not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
        ],
        type_ignores=[],
    )
    return imports(kept)


def sources() -> list[Path]:
    return [path for path in python_files() if room_of(module_of(path)) in ALLOWED]


def parsed(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", sources(), ids=str)
def test_rooms_import_only_what_they_may(path):
    module = module_of(path)
    room = room_of(module)
    found = top_level(parsed(path)) if is_root(module) else imports(parsed(path))
    for name, line in found:
        target = room_of(name)
        allowed = target is None or target in ALLOWED[room]
        if "ports" in ALLOWED[room] and name in PORTS:
            allowed = True
        assert allowed, f"{path}:{line}: {room} may not import {name}"


@pytest.mark.parametrize("path", sources(), ids=str)
def test_nobody_imports_the_development_stack_but_itself_and_the_command_line(path):
    module = module_of(path)
    if room_of(module) == "dev" or is_root(module):
        return
    named = [name for name, _ in imports(parsed(path)) if room_of(name) == "dev"]
    assert named == []


@pytest.mark.parametrize("path", sources(), ids=str)
def test_the_write_side_and_the_read_side_share_only_the_log(path):
    room = room_of(module_of(path))
    other = {"streams": "projections", "projections": "streams"}.get(room)
    assert all(room_of(name) != other for name, _ in imports(parsed(path)) if other)


INNER = [path for path in sources() if room_of(module_of(path)) in OUTSIDE]


@pytest.mark.parametrize("path", INNER, ids=str)
def test_the_inner_rooms_use_few_libraries(path):
    room = room_of(module_of(path))
    for name, line in imports(parsed(path)):
        first = name.split(".")[0]
        known = first in sys.stdlib_module_names or first in OUTSIDE[room]
        ports = name == "orchestrator.ports"
        assert known or room_of(name) is not None or ports, f"{path}:{line}: {name}"


CORE = [path for path in sources() if room_of(module_of(path)) == "core"]


@pytest.mark.parametrize("path", CORE, ids=str)
def test_the_core_has_no_clock_random_input_output_or_loop(path):
    tree = parsed(path)
    for name, line in imports(tree):
        assert name.split(".")[0] not in BANNED_IN_CORE, f"{path}:{line}: {name}"
    for node in ast.walk(tree):
        assert not isinstance(node, ast.AsyncFunctionDef | ast.Await), f"{path}:{node.lineno}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in BANNED_CALLS_IN_CORE, f"{path}:{node.lineno}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            assert node.func.attr not in CLOCKS, f"{path}:{node.lineno}"


def test_there_is_something_to_check():
    assert len(CORE) > 5
    assert {room_of(module_of(path)) for path in sources()} >= {"schemas", "core", "orchestrator"}
