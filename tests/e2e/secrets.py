"""Secrets that are recognised anywhere, and the places that are searched for them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from orchestrator.tokens import Scope, Token, sha256_of
from tests.e2e.harness import World, free_port

PLANTED = {
    "RPC token": "rpctoken5e3c71a9",
    "socket token": "sockettoken77ab19",
    "Kuro password": "kuropassword90dd1c",
    "AWS access key": "AKIAPLANTED5T0LEN4",
    "AWS secret": "awssecret2f8d6b07e5",
    "AWS session token": "awssession44e1c9",
    "API token": "sco_apitoken1b64fe20d",
    "store password": "storepassword3a7e",
    "webhook secret": "d2ViaG9va3NlY3JldHBsYW50ZWQtMTIzNDU2Nzg5MA==",
    "webhook URL token": "hooktoken8c02f4",
    "OTLP header": "otlpheader6671be",
    "OTLP URL token": "otlptoken03ca5d",
}


def with_token(url: str, token: str, password: str | None = None) -> str:
    """The URL with a token in its query, and user and password before the host."""
    parts = urlsplit(url)
    netloc = parts.netloc if password is None else f"kuro:{password}@{parts.netloc}"
    return urlunsplit((parts.scheme, netloc, parts.path, f"key={token}" if token else "", ""))


def secrets_of(environment: Mapping[str, str]) -> dict[str, str]:
    """All that was planted, and what the stack itself has: database password, wallet keys."""
    found = dict(PLANTED)
    found["database password"] = str(urlsplit(environment["DATABASE_URL"]).password)
    for name, value in environment.items():
        if re.fullmatch(r"RELAYER_PRIVATE_KEY_\d+", name):
            for number, key in enumerate(value.split(",")):
                found[f"{name}, {number}"] = key.removeprefix("0x")
    return found


def planted(world: World, folder: Path) -> dict[str, str]:
    """The stack's environment with a secret in every setting that may hold one."""
    environment = dict(world.environment)
    for name, value in environment.items():
        if re.fullmatch(r"KADENA_EVM_CHAIN_\d+_RPC", name):
            environment[name] = with_token(value, PLANTED["RPC token"])
    hooks = folder / "webhooks.json"
    url = f"http://127.0.0.1:{free_port()}/hook?key={PLANTED['webhook URL token']}"
    secret = "whsec_" + PLANTED["webhook secret"]
    hooks.write_text(json.dumps([{"name": "bank", "url": url, "secret": secret}]))
    token = PLANTED["API token"]
    return environment | {
        "KURO_WEBSOCKET_URL": with_token(
            environment["KURO_WEBSOCKET_URL"], PLANTED["socket token"]
        ),
        "KURO_REST_URL": with_token(environment["KURO_REST_URL"], "", PLANTED["Kuro password"]),
        "AWS_ACCESS_KEY_ID": PLANTED["AWS access key"],
        "AWS_SECRET_ACCESS_KEY": PLANTED["AWS secret"],
        "AWS_SESSION_TOKEN": PLANTED["AWS session token"],
        "API_TOKENS": Token("ops", Scope.OPERATE, sha256_of(token)).entry(),
        "ORCHESTRATOR_API_TOKEN": token,
        "API_RATE_LIMIT_STORE_URL": (
            f"redis://:{PLANTED['store password']}@127.0.0.1:{free_port()}/0"
        ),
        "API_RATE_LIMIT": "1000/15minutes",
        "WEBHOOKS_FILE": str(hooks),
        "WEBHOOKS_ALLOW_HTTP": "true",
        "OTEL_EXPORTER_OTLP_ENDPOINT": (
            f"http://127.0.0.1:{free_port()}/{PLANTED['OTLP URL token']}"
        ),
        "OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer {PLANTED['OTLP header']}",
        "LOG_LEVEL": "DEBUG",
    }


def unreachable(environment: Mapping[str, str]) -> dict[str, str]:
    """The same secrets, and nobody at any of the addresses."""
    nobody = free_port()
    away = dict(environment)
    for name, value in environment.items():
        if name.startswith(("KADENA_EVM", "KURO_")) or name in (
            "DATABASE_URL",
            "KAFKA_BOOTSTRAP_SERVERS",
            "AWS_ENDPOINT_URL_KMS",
        ):
            away[name] = re.sub(r"127\.0\.0\.1:\d+", f"127.0.0.1:{nobody}", value)
    return away


def spoiled(environment: Mapping[str, str]) -> dict[str, str]:
    """Settings that cannot work, each with its secret in it."""
    spoilt = {
        "DATABASE_URL": environment["DATABASE_URL"].replace("://", ":/ /", 1),
        "API_TOKENS": PLANTED["API token"],
        "API_RATE_LIMIT_STORE_URL": f"http://:{PLANTED['store password']}@nowhere",
        "KURO_WEBSOCKET_URL": f"nonsense {PLANTED['socket token']}",
        "KURO_REST_URL": f"nonsense://kuro:{PLANTED['Kuro password']}@",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"ftp://{PLANTED['OTLP URL token']}",
        "ORCHESTRATOR_API_TOKEN": PLANTED["API token"] + "\n",
    }
    for name, value in environment.items():
        if re.fullmatch(r"RELAYER_PRIVATE_KEY_\d+", name):
            spoilt[name] = value + "0"
        if re.fullmatch(r"KADENA_EVM_CHAIN_\d+_RPC", name):
            spoilt[name] = "ws://" + PLANTED["RPC token"]
    return {**environment, **spoilt}


def run(
    environment: Mapping[str, str], *arguments: str, log: Path, seconds: float, linger: float
) -> str:
    """All that a command writes, until it ends; one that does not is ended `linger` seconds after
    its first words."""
    with log.open("wb") as out:
        child = subprocess.Popen(
            [sys.executable, "-m", "orchestrator", *arguments],
            env=dict(environment),
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    last_moment = time.monotonic() + seconds
    while child.poll() is None and time.monotonic() < last_moment:
        time.sleep(0.2)
        if log.stat().st_size:
            last_moment = min(last_moment, time.monotonic() + linger)
            linger = seconds  # from the first words on
    if child.poll() is None:
        child.terminate()
    try:
        child.wait(30)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    return log.read_text(errors="replace")


def command_lines() -> str:
    """Of every process on this machine that we may look at: as `ps` shows them."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return "\n".join(found)
