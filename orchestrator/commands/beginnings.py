"""Where a log begins: an empty one is made for a new installation only.

A broker that lost its topics looks like a new one. With topics made anew beside tables that hold
what was minted, the service would begin from nothing: chains and the guard still keep a mint from
coming twice, but no fact would say why those before were made.
"""

from __future__ import annotations

from orchestrator.config import Config
from orchestrator.errors import StartRefused

RUNBOOK = "docs/runbooks/lost-log.md"
REMEDY = (
    "stop every role and restore an archive (orchestrator topics import), see "
    f"{RUNBOOK}; a new installation takes an empty database"
)


async def prepare_log(config: Config) -> None:
    """The topics, made where that loses nothing. Raises StartRefused, LogUnavailable."""
    from streams.topics import prepare_topics

    if (lost := await what_is_lost(config)) is not None:
        raise StartRefused(f"{lost}; {REMEDY}")
    await prepare_topics(config.kafka, config.settings.kafka_replication_factor)


async def what_is_lost(config: Config) -> str | None:
    """Which missing topics the tables hold records of; None when there are none. Raises
    StartRefused when topics are missing and the tables cannot be asked."""
    from psycopg import Error

    from projections.database import describe, held_offsets
    from streams.topics import missing_topics

    missing = await missing_topics(config.kafka)
    if not missing:
        return None
    try:
        held = await held_offsets(config.database_url)
    except Error as error:
        raise StartRefused(
            f"topics are missing ({', '.join(missing)}), and whether the tables hold records of "
            f"them is not known: {describe(error)}"
        ) from None
    ends = {name: sum(end for (topic, _), end in held.items() if topic == name) for name in missing}
    told = [f"{name} (read up to {end} offsets)" for name, end in ends.items() if end]
    if not told:
        return None
    return f"the log is gone: the broker lacks topics that the tables were made from: {told[0]}" + (
        f" and {len(told) - 1} more" if told[1:] else ""
    )
