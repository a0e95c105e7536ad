"""`orchestrator dead-letters`: what could not be understood or conflicts; looked at, and read again
once its cause is mended."""

from __future__ import annotations

import asyncio
import base64
import getpass
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer
from rich.table import Table

from orchestrator.commands.showing import console, moment_ms, show_json
from orchestrator.config import Config, Need, load
from orchestrator.errors import OrchestratorError
from schemas.base import Position, UnreadableRecord, instant
from schemas.dead_letters import DeadLetter, DeadLetterReason, DeadLetterReplayed
from schemas.lanes import RelayRequested
from schemas.topics import DEAD_LETTERS, EVM_EVENTS, KURO_EVENTS, LANES, TOPICS

letters_app = typer.Typer(
    no_args_is_help=True, help="What could not be understood or conflicts, whole, with its origin."
)

KURO_ORIGIN = "kuro/"

Json = Annotated[bool, typer.Option("--json", help="As JSON.")]
Place = Annotated[str, typer.Argument(help="Partition and offset of the letter, e.g. 0/17.")]


class ReplayRefused(OrchestratorError):
    """These bytes cannot go back to where they came from; says why."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter where it stands, and every time that it was replayed."""

    position: Position
    at: str
    fact: DeadLetter
    replays: list[DeadLetterReplayed] = field(default_factory=list)

    def shown(self, whole: bool = False) -> dict[str, Any]:
        body = {
            "place": f"{self.position.partition}/{self.position.offset}",
            "at": self.at,
            "reason": self.fact.reason,
            "origin": self.fact.origin,
            "detail": self.fact.detail,
            "rawBytes": self.fact.raw_bytes,
            "replays": [{"who": r.who, "why": r.why, "position": r.position} for r in self.replays],
        }
        if whole:
            body |= {
                "id": self.fact.id,
                "sha256": self.fact.raw_sha256,
                "raw": _raw_text(self.fact),
            }
        return body


def _raw_text(fact: DeadLetter) -> str:
    raw = base64.b64decode(fact.raw_base64)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return f"base64:{fact.raw_base64}"


async def _letters(config: Config, at_ms: int | None = None) -> list[Letter]:
    from orchestrator.adapters.kafka_tail import Since, tail

    since = Since(beginning=True) if at_ms is None else Since(at_ms=at_ms)
    found: dict[str, Letter] = {}
    async for batch in tail(config.kafka, [DEAD_LETTERS], since, follow=False):
        for message in batch:
            position = Position(message.topic, message.partition, message.offset)
            try:
                record = DEAD_LETTERS.decode(message.value, position)
            except UnreadableRecord as error:
                console.print(f"{position} is itself unreadable: {error}", style="red")
                continue
            if isinstance(record.fact, DeadLetter):
                found.setdefault(record.fact.id, Letter(position, record.at, record.fact))
            elif isinstance(record.fact, DeadLetterReplayed) and record.fact.letter in found:
                found[record.fact.letter].replays.append(record.fact)
    return list(found.values())


@letters_app.command("list")
def list_letters(
    since: Annotated[
        str | None, typer.Option(help="Only newer ones: an age (2h) or a time with its zone.")
    ] = None,
    reason: Annotated[DeadLetterReason | None, typer.Option(help="Only of this reason.")] = None,
    open_only: Annotated[bool, typer.Option("--open", help="Only those never replayed.")] = False,
    as_json: Json = False,
) -> None:
    """Every dead letter: where it stands, why, and where it came from. Oldest first."""
    config = load([Need.KAFKA])
    letters = asyncio.run(_letters(config, None if since is None else moment_ms(since)))
    wanted = [
        letter
        for letter in letters
        if (reason is None or letter.fact.reason is reason) and not (open_only and letter.replays)
    ]
    if as_json:
        show_json([letter.shown() for letter in wanted])
        return
    table = Table("place", "at", "reason", "origin", "what is wrong", "replayed", show_edge=False)
    for letter in wanted:
        replayed = ", ".join(replay.who for replay in letter.replays)
        place = f"{letter.position.partition}/{letter.position.offset}"
        fact = letter.fact
        table.add_row(place, letter.at[:19], fact.reason, fact.origin, fact.detail, replayed)
    console.print(table if wanted else "no dead letters", soft_wrap=False)


@letters_app.command("show")
def show_letter(place: Place, as_json: Json = False) -> None:
    """One dead letter, whole: its bytes too."""
    letter = asyncio.run(_one(load([Need.KAFKA]), place))
    body = letter.shown(whole=True)
    if as_json:
        show_json(body)
        return
    for name, value in body.items():
        console.print(f"{name:>9}  {value}", markup=False)


async def _one(config: Config, place: str) -> Letter:
    for letter in await _letters(config):
        if f"{letter.position.partition}/{letter.position.offset}" == place:
            return letter
    raise typer.BadParameter(f"{place}: no dead letter stands there; see dead-letters list")


@letters_app.command("replay")
def replay_letter(
    place: Place,
    why: Annotated[str, typer.Option(help="For the audit: what was mended.")],
    who: Annotated[str | None, typer.Option(help="By default the user of this machine.")] = None,
    dry_run: Annotated[bool, typer.Option(help="Say what would be appended, and where.")] = False,
    as_json: Json = False,
) -> None:
    """Have a letter's bytes read again, now that its cause is mended.

    What Kuro sent is parsed anew and becomes its fact. A record of a topic is appended to that
    topic once more, unchanged, if it can be read now; the fold decides on it as on any other. What
    only an owner may write (a chain's events, a lane's transactions) is refused: its owner writes
    it itself.
    """
    config = load([Need.KAFKA])
    done = asyncio.run(_replay(config, place, who or getpass.getuser(), why, dry_run))
    if as_json:
        show_json(done)
    else:
        where = done["position"] or f"{done['topic']}, if it were not a dry run"
        console.print(f"{done['kind']} {done['id']} is appended at {where}")


async def _replay(
    config: Config, place: str, who: str, why: str, dry_run: bool
) -> dict[str, str | None]:
    from orchestrator.adapters.kafka_log import KafkaWriter

    letter = await _one(config, place)
    topic, key, value, fact = await _readable(config, letter.fact)
    done: dict[str, str | None] = {"kind": fact.kind, "id": fact.id, "topic": topic.name}
    if dry_run:
        return {**done, "position": None}
    writer = KafkaWriter(config.kafka, "orchestrator-dead-letters")
    await writer.start()
    try:
        position = str(await writer.append_raw(topic, key, value, [("replays", place.encode())]))
        told = DeadLetterReplayed(letter=letter.fact.id, position=position, who=who, why=why)
        await writer.append(DEAD_LETTERS, [told])
    finally:
        await writer.close()
    return {**done, "position": position}


async def _readable(config: Config, letter: DeadLetter) -> tuple[Any, bytes, bytes, Any]:
    """Topic, key, value and fact of what would be appended. Raises ReplayRefused."""
    if letter.origin.startswith(KURO_ORIGIN):
        return _from_kuro(config, letter)
    from orchestrator.adapters.kafka_tail import record_at

    name, _, rest = letter.origin.rpartition("/")
    name, _, partition = name.rpartition("/")
    if name not in TOPICS or not (partition.isdigit() and rest.isdigit()):
        raise ReplayRefused(f"origin {letter.origin} is no place on this log")
    message = await record_at(config.kafka, Position(name, int(partition), int(rest)))
    if message is None or message.value is None or message.key is None:
        raise ReplayRefused(f"no record with key and value stands at {letter.origin}")
    try:
        fact = TOPICS[name].decode(message.value).fact
    except UnreadableRecord as error:
        raise ReplayRefused(f"still unreadable: {error}") from None
    owned = name == EVM_EVENTS.name or (name == LANES.name and not isinstance(fact, RelayRequested))
    if owned or name == DEAD_LETTERS.name:
        raise ReplayRefused(f"{fact.kind} is written by its owner alone: restart that role instead")
    return TOPICS[name], message.key, message.value, fact


def _from_kuro(config: Config, letter: DeadLetter) -> tuple[Any, bytes, bytes, Any]:
    import time

    from orchestrator.adapters.kuro_messages import Ignored, MalformedMessage, parse
    from schemas.base import Record, encode_value
    from schemas.kuro import Via

    raw = base64.b64decode(letter.raw_base64)
    if len(raw) != letter.raw_bytes:
        raise ReplayRefused("the letter holds only the beginning of what was received")
    try:
        fact = parse(raw, Via.REST, config.settings.kuro_mint_chain_id)
    except MalformedMessage as error:
        raise ReplayRefused(f"still malformed: {error}") from None
    if isinstance(fact, Ignored):
        raise ReplayRefused(f"a message of type {fact.type!r} is no mint")
    value = encode_value(Record(fact, instant(time.time())))
    return KURO_EVENTS, fact.key.encode(), value, fact
