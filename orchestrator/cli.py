"""The command line: `orchestrator --help`. Each command imports only what it runs."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine, Iterable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator import running
from orchestrator.commands import controls, policies, reading, rebuild, watch
from orchestrator.commands.archives import topics_app
from orchestrator.commands.audit import audit
from orchestrator.commands.beginnings import prepare_log
from orchestrator.commands.certificates import certifier_of
from orchestrator.commands.certificates import register as add_certificate_commands
from orchestrator.commands.day_close import day_close
from orchestrator.commands.decisions import decisions
from orchestrator.commands.doctor import doctor, keys_app
from orchestrator.commands.guard import guard_app, prepare_guard
from orchestrator.commands.letters import letters_app
from orchestrator.commands.replay import replay
from orchestrator.commands.seal import seal_app, seal_watch_of
from orchestrator.commands.seal_proofs import register as add_proof_commands
from orchestrator.commands.tail import tail
from orchestrator.commands.tokens import token
from orchestrator.commands.webhooks import add_commands as add_webhook_commands
from orchestrator.config import Config, Need, load
from orchestrator.errors import ConfigurationError, OrchestratorError
from orchestrator.exposures import tell_loud
from orchestrator.logs import set_up
from orchestrator.running import Part, run_parts

if TYPE_CHECKING:
    from streams.worker import Role

app = typer.Typer(
    name="orchestrator",
    help="Mints and redeems a stablecoin on EVM chains. Facts stand on Kafka, approvals are signed "
    "by AWS KMS, hot wallets relay them, PostgreSQL and an HTTP API tell where each request is. "
    "Settings come from the environment; env.example lists them all. To see it work without any "
    "of that: orchestrator demo.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)


def _configured(needs: Iterable[Need]) -> Config:
    config = load(needs)
    set_up(config.settings.log_level)
    tell_loud(config.exposures)
    return config


def _run(config: Config, parts: dict[str, Part], *, database: bool = False) -> None:
    main = run_parts({**parts, **_metrics(config)})
    running.run(_admitted(config, main, database=database))


async def _admitted(config: Config, main: Coroutine[Any, Any, None], *, database: bool) -> None:
    """Run it once Kafka and (`database`) PostgreSQL let this process in, or are not there yet."""
    from orchestrator import kafka_clients, postgres_troubles

    with closing(main):
        if config.kafka_if_given is not None:
            await kafka_clients.refuse_if_not_admitted(config.kafka_if_given)
        if database:
            await postgres_troubles.refuse_if_not_admitted(config.database_url)
        await main


def _webhooks(config: Config) -> dict[str, Part]:
    if config.settings.webhooks_file is None:
        return {}
    from projections.webhooks.delivering import run_webhooks

    return {"webhooks": lambda stop: run_webhooks(config, stop)}


def _metrics(config: Config) -> dict[str, Part]:
    """The process's own metrics endpoint, where one is asked for."""
    if not config.settings.metrics_port:
        return {}
    from orchestrator.metrics_endpoint import run_metrics

    return {"metrics": lambda stop: run_metrics(config.settings, stop)}


@app.command()
def init() -> None:
    """Create the topics and the tables, and check what is already there. Safe to repeat.

    Refused where the tables hold records of topics that are gone: a lost log is restored.
    """
    config = _configured([Need.KAFKA, Need.DATABASE])
    asyncio.run(_init(config))
    typer.echo("topics and tables are ready")


async def _init(config: Config) -> None:
    from projections.run import migrate

    await prepare_log(config)
    await migrate(config.database_url)
    await prepare_guard(config)


@app.command()
def ingest() -> None:
    """Listen to Kuro and follow the chains: what they say becomes facts on the log."""
    from streams.ingest import NEEDS, run_ingest

    config = _configured(NEEDS)
    _run(config, {"ingest": lambda stop: run_ingest(config, stop)})


@app.command()
def worker(
    roles: Annotated[
        str,
        typer.Option(help="Comma-separated: decide, sign, relay. Each may run in its own process."),
    ] = "decide,sign,relay",
) -> None:
    """Drive the requests: decide what is owed, sign approvals with KMS, relay transactions."""
    from streams.worker import NEEDS, run_worker

    chosen = _roles(roles)
    config = _configured({need for role in chosen for need in NEEDS[role]})
    _run(config, {"worker": lambda stop: run_worker(config, chosen, stop)})


def _roles(text: str) -> list[Role]:
    from streams.worker import Role

    names = [name.strip() for name in text.split(",") if name.strip()]
    known = [role.value for role in Role]
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise typer.BadParameter(f"{text!r}: give one or several of {', '.join(known)}")
    return [Role(name) for name in dict.fromkeys(names)]


@app.command()
def project() -> None:
    """Project the log to PostgreSQL. Several may run; one of them writes."""
    from projections.run import run_projection

    config = _configured([Need.KAFKA, Need.DATABASE])
    _run(config, {"project": lambda stop: run_projection(config, stop)}, database=True)


@app.command()
def api() -> None:
    """Serve the HTTP API: /status, /health, /metrics."""
    from projections.run import run_api

    config = _configured([Need.DATABASE])
    certifier, seals = certifier_of(config), seal_watch_of(config)
    parts: dict[str, Part] = {"api": lambda stop: run_api(config, stop, None, certifier, seals)}
    _run(config, parts, database=True)


@app.command()
def run() -> None:
    """Everything in one process: init, ingest, worker, project and api."""
    from projections.run import run_api, run_projection
    from streams.ingest import run_ingest
    from streams.worker import Role, run_worker

    config = _configured(Need)
    certifier, seals = certifier_of(config), seal_watch_of(config)

    async def everything() -> None:
        await prepare_log(config)
        await run_parts(
            {
                "ingest": lambda stop: run_ingest(config, stop),
                "worker": lambda stop: run_worker(config, list(Role), stop),
                "project": lambda stop: run_projection(config, stop),
                "api": lambda stop: run_api(config, stop, None, certifier, seals),
                **_webhooks(config),
                **_metrics(config),
            }
        )

    running.run(_admitted(config, everything(), database=True))


@app.command()
def demo(
    requests: Annotated[
        int | None,
        typer.Option(min=2, help="End after so many requests, half mints, half redeems."),
    ] = None,
    per_second: Annotated[float, typer.Option(min=0.1, help="Requests per second.")] = 10.0,
    block_seconds: Annotated[float, typer.Option(min=0.2, help="Time between blocks.")] = 1.0,
    data: Annotated[
        Path | None, typer.Option(help="Folder for all data; a new temporary one by default.")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="API port; 0 takes a free one.")] = 0,
    launchpad: Annotated[
        list[int] | None, typer.Option(help="A chain with the launchpad's contract; repeatable.")
    ] = None,
) -> None:
    """See it work: Kafka, PostgreSQL, five chains, KMS and Kuro start here, and a stream of mints
    and redeems runs through them until Ctrl-C."""
    from orchestrator.dev.demo import run_demo

    raise SystemExit(
        asyncio.run(
            run_demo(
                requests=requests,
                per_second=per_second,
                block_seconds=block_seconds,
                data=data,
                port=port,
                launchpad=launchpad or (),
            )
        )
    )


webhooks_app = typer.Typer(help="Deliver the feed to endpoints, and see how deliveries stand.")


@webhooks_app.callback(invoke_without_command=True)
def webhooks(context: typer.Context) -> None:
    """Deliver facts to the endpoints of WEBHOOKS_FILE. Of several, one serves each endpoint."""
    if context.invoked_subcommand is not None:
        return
    from projections.webhooks.delivering import run_webhooks

    config = _configured([Need.KAFKA, Need.DATABASE])
    _run(config, {"webhooks": lambda stop: run_webhooks(config, stop)}, database=True)


add_webhook_commands(webhooks_app)
app.add_typer(webhooks_app, name="webhooks")
app.command()(doctor)
app.command()(decisions)
app.command()(tail)
app.command()(reading.status)
app.command()(reading.explain)
app.command()(reading.lanes)
app.command()(watch.watch)
app.command()(replay)
app.add_typer(letters_app, name="dead-letters")
app.add_typer(keys_app, name="keys")
app.add_typer(guard_app, name="guard")
add_proof_commands(seal_app)
app.add_typer(seal_app, name="seal")
app.add_typer(topics_app, name="topics")
app.command()(token)
rebuild.register(app)
controls.register(app)
policies.register(app)
app.command()(audit)
add_certificate_commands(app)
app.command()(day_close)


def main() -> None:
    """Errors that a person can mend are told in words, one line each, with exit code 2."""
    try:
        app()
    except ConfigurationError as error:
        typer.echo("The configuration cannot work:", err=True)
        for problem in error.problems:
            typer.echo(f"  {problem}", err=True)
        sys.exit(2)
    except OrchestratorError as error:
        typer.echo(str(error), err=True)
        sys.exit(2)
    except Exception as error:
        from orchestrator.postgres_troubles import told

        if (trouble := told(error)) is None:
            raise
        typer.echo(trouble, err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
