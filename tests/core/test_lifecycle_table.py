"""Every situation meets every kind of fact; what must come of it was written by hand, not derived.

`=` REPEATED, `!` CONFLICT, `-` OUT_OF_ORDER, `.` applied and the stage stays, else the new stage.
"""

from __future__ import annotations

import pytest

from orchestrator.core.lifecycle import STATUS_OF, TABLE, TERMINAL, Stage, Verdict, evolve
from schemas.requests import FailureReason, RequestFact
from schemas.topics import REQUESTS
from tests.core.facts import (
    KEY,
    ORIGIN,
    OTHER_ORIGIN,
    ROUTES,
    SITUATIONS,
    approved,
    assigned,
    cancelled,
    cleared,
    completed,
    drafted,
    evidence,
    expired,
    failed,
    folded,
    given_up,
    gone,
    held,
    included,
    lapsed,
    orphaned,
    recalled,
    received,
    record,
    refused,
    rejected,
    retracted,
    retried,
    seat,
    signed,
    submitted,
)

ABBREVIATED = {
    "UB": Stage.UNBACKED,
    "RC": Stage.RECEIVED,
    "HD": Stage.HELD,
    "DR": Stage.DRAFTED,
    "SG": Stage.SIGNED,
    "RL": Stage.RELAYING,
    "SB": Stage.SUBMITTED,
    "IN": Stage.INCLUDED,
    "EX": Stage.EXPIRED,
    "CO": Stage.COMPLETED,
    "RJ": Stage.REJECTED,
    "FL": Stage.FAILED,
    "RT": Stage.RETRACTED,
}
MISMATCH = FailureReason.EVIDENCE_MISMATCH


def ticket(attempt: int) -> str:
    """The one that an untroubled request would ask under next."""
    return f"{attempt + 1}.0.0"


FACTS = {
    "rcv": lambda attempt: received(),
    "rc2": lambda attempt: received(OTHER_ORIGIN),
    "rej": lambda attempt: rejected(),
    "dr1": lambda attempt: drafted(1),
    "dr2": lambda attempt: drafted(2),
    "sig": lambda attempt: signed(),
    "ass": lambda attempt: assigned(),
    "sub": lambda attempt: submitted(),
    "inc": lambda attempt: included(),
    "orp": lambda attempt: orphaned(),
    "ref": lambda attempt: refused(),
    "exp": lambda attempt: expired(),
    "ev1": lambda attempt: evidence(1),
    "ev2": lambda attempt: evidence(2),
    "rt1": lambda attempt: retracted(seat(1)),
    "rtO": lambda attempt: retracted(ORIGIN),
    "rt9": lambda attempt: retracted(seat(9)),
    "cmp": lambda attempt: completed(),
    "fl1": lambda attempt: failed(1),
    "flm": lambda attempt: failed(attempt, MISMATCH),
    "ret": lambda attempt: gone(),
    "can": lambda attempt: cancelled("c-1"),
    "ca2": lambda attempt: cancelled("c-2"),
    "rty": lambda attempt: retried(),
    "flc": given_up,
    "clr": lambda attempt: cleared(ticket(attempt)),
    "hld": lambda attempt: held(ticket(attempt)),
    "lps": lambda attempt: lapsed(ticket(attempt)),
    "app": lambda attempt: approved("a-1", "ann", ticket(attempt)),
    "ap2": lambda attempt: approved("a-2", "bob", ticket(attempt)),
    "rcl": lambda attempt: recalled(max(1, attempt)),
    "ap3": lambda attempt: approved("a-3", " Ann", ticket(attempt)),
}

EXPECTED = """
            rcv rc2 rej dr1 dr2 sig ass sub inc orp ref exp ev1 ev2 rt1 rtO rt9 cmp fl1 flm ret
nothing     RC  RC  -   -   -   -   -   -   -   -   -   -   UB  UB  -   -   -   -   -   -   -
UNBACKED    RC  RC  -   -   -   -   -   -   -   -   -   -   =   !   RT  .   .   -   -   -   -
RECEIVED    =   !   RJ  DR  -   -   -   -   -   -   -   -   .   .   .   .   .   -   -   =   -
HELD        =   !   -   =   -   -   -   -   -   -   -   -   .   .   .   .   .   -   -   =   -
DRAFTED     =   !   -   =   -   SG  -   -   -   -   -   -   .   .   .   .   .   -   -   =   -
SIGNED      =   !   -   =   -   =   RL  -   -   -   -   -   .   .   .   .   .   -   -   =   -
RELAYING    =   !   -   =   -   =   =   SB  IN  .   .   -   .   .   .   .   .   -   -   =   -
SUBMITTED   =   !   -   =   -   =   =   =   IN  .   .   -   .   .   .   .   .   -   -   =   -
INCLUDED    =   !   -   =   -   =   =   =   =   SB  .   -   .   .   .   .   .   -   -   =   -
EXPIRED     =   !   -   =   DR  =   =   .   .   .   =   =   .   .   .   .   .   -   -   =   -
COMPLETED   =   !   =   =   =   =   =   =   =   .   .   =   =   !   RC  .   .   =   =   =   -
REJECTED    =   !   =   =   -   -   -   -   -   -   -   -   .   .   .   .   .   -   -   =   -
FAILED      =   !   =   =   =   =   =   .   .   .   !   =   .   .   .   .   .   -   =   =   -
RETRACTED   =   RC  =   =   =   =   =   =   .   .   .   =   .   .   .   =   .   -   =   =   =
RELAYING, time is over
            =   !   -   =   -   =   =   SB  IN  .   =   EX  .   .   .   .   .   -   -   =   -
RELAYING, reverted
            =   !   -   =   -   =   =   SB  IN  .   !   -   .   .   .   .   .   -   FL  =   -
INCLUDED, proved
            =   !   -   =   -   =   =   =   =   SB  .   -   =   !   .   .   .   CO  -   FL  -
SUBMITTED, origin gone
            =   RC  -   =   -   =   =   =   IN  .   .   -   .   .   .   =   .   -   -   =   RT
DRAFTED, being cancelled
            =   !   -   =   =   =   =   -   -   -   -   -   .   .   .   .   .   -   -   =   -
RELAYING, being cancelled
            =   !   -   =   =   =   =   SB  IN  .   .   -   .   .   .   .   .   -   -   =   -
RELAYING, given up
            =   !   -   =   =   =   =   SB  IN  .   !   -   .   .   .   .   .   -   -   =   -
SUBMITTED, processed
            =   !   -   =   -   =   =   =   IN  .   !   -   .   .   .   .   .   -   -   =   -
HELD, approved by one
            =   !   -   =   -   -   -   -   -   -   -   -   .   .   .   .   .   -   -   =   -
HELD, being cancelled
            =   !   -   =   -   -   -   -   -   -   -   -   .   .   .   .   .   -   -   =   -
RECEIVED, cleared
            =   !   RJ  DR  -   -   -   -   -   -   -   -   .   .   .   .   .   -   -   =   -
RECEIVED, recalled
            =   !   RJ  =   DR  =   =   .   .   .   .   =   .   .   .   .   .   -   =   =   -
FAILED, cancelled
            =   !   =   =   =   =   =   .   .   .   .   =   .   .   .   .   .   -   =   =   -
FAILED, retried
            =   !   =   =   DR  =   =   .   .   .   !   =   .   .   .   .   .   -   =   =   -
REJECTED, chain unknown
            =   !   =   =   -   -   -   -   -   -   -   -   .   .   .   .   .   -   -   =   -
"""

EXPECTED_OF_ORDERS = """
            can ca2 rty flc
nothing     -   -   -   -
UNBACKED    -   -   -   =
RECEIVED    .   .   .   =
HELD        .   .   RC  =
DRAFTED     .   .   .   =
SIGNED      .   .   .   =
RELAYING    .   .   .   =
SUBMITTED   .   .   .   =
INCLUDED    .   .   .   =
EXPIRED     .   .   .   =
COMPLETED   -   -   -   =
REJECTED    -   -   -   =
FAILED      -   -   RC  =
RETRACTED   -   -   -   =
RELAYING, time is over
            .   .   .   =
RELAYING, reverted
            .   .   .   =
INCLUDED, proved
            -   -   -   =
SUBMITTED, origin gone
            .   .   -   =
DRAFTED, being cancelled
            =   -   -   FL
RELAYING, being cancelled
            =   -   -   -
RELAYING, given up
            =   -   -   FL
SUBMITTED, processed
            .   .   RC  =
HELD, approved by one
            .   .   RC  =
HELD, being cancelled
            =   -   -   FL
RECEIVED, cleared
            .   .   .   =
RECEIVED, recalled
            .   .   .   =
FAILED, cancelled
            =   -   RC  =
FAILED, retried
            .   .   =   =
REJECTED, chain unknown
            -   -   RC  =
"""


EXPECTED_OF_POLICIES = """
            clr hld lps app ap2 ap3 rcl
nothing     -   -   -   -   -   -   -
UNBACKED    -   -   -   -   -   -   -
RECEIVED    .   HD  -   -   -   -   -
HELD        RC  =   RC  .   .   .   -
DRAFTED     -   -   -   -   -   -   RC
SIGNED      -   -   -   -   -   -   =
RELAYING    -   -   -   -   -   -   =
SUBMITTED   -   -   -   -   -   -   =
INCLUDED    -   -   -   -   -   -   =
EXPIRED     .   HD  -   -   -   -   =
COMPLETED   =   =   =   -   -   -   =
REJECTED    =   =   =   -   -   -   -
FAILED      =   =   =   -   -   -   =
RETRACTED   =   =   =   -   -   -   =
RELAYING, time is over
            -   -   -   -   -   -   =
RELAYING, reverted
            -   -   -   -   -   -   =
INCLUDED, proved
            -   -   -   -   -   -   =
SUBMITTED, origin gone
            =   =   =   -   -   -   =
DRAFTED, being cancelled
            -   -   -   -   -   -   =
RELAYING, being cancelled
            -   -   -   -   -   -   =
RELAYING, given up
            -   -   -   -   -   -   =
SUBMITTED, processed
            -   -   -   -   -   -   =
HELD, approved by one
            RC  =   RC  =   .   -   -
HELD, being cancelled
            RC  =   RC  -   -   -   -
RECEIVED, cleared
            =   =   =   -   -   -   -
RECEIVED, recalled
            .   HD  -   -   -   -   =
FAILED, cancelled
            =   =   =   -   -   -   =
FAILED, retried
            =   =   =   -   -   -   =
REJECTED, chain unknown
            =   =   =   -   -   -   -
"""


def cells() -> list[tuple[str, str, str]]:
    found = [*cells_of(EXPECTED), *cells_of(EXPECTED_OF_ORDERS)]
    found += cells_of(EXPECTED_OF_POLICIES)
    assert {column for _, column, _ in found} == set(FACTS)
    assert len(set(found)) == (1 + len(SITUATIONS)) * len(FACTS)
    return found


def cells_of(table: str) -> list[tuple[str, str, str]]:
    found, situation = [], ""
    header, *rows = table.strip("\n").splitlines()
    columns = header.split()
    for row in rows:
        if not row.startswith(" "):
            situation = row.strip() if row.strip() in SITUATIONS else row.split()[0]
        words = row.removeprefix(situation).split()
        found += [(situation, column, cell) for column, cell in zip(columns, words, strict=False)]
    return found


@pytest.mark.parametrize(("situation", "column", "cell"), cells())
def test_each_situation_meets_each_kind_of_fact(situation, column, cell):
    before = None if situation == "nothing" else folded(SITUATIONS[situation])
    fact = FACTS[column](before.attempt if before else 0)
    after, verdict = evolve(before, record(fact, 1000))
    refusals = {"=": Verdict.REPEATED, "!": Verdict.CONFLICT, "-": Verdict.OUT_OF_ORDER}
    if cell in refusals:
        assert verdict is refusals[cell]
        assert after is before, "a fact that is not applied must leave the very same object"
        return
    assert verdict is Verdict.APPLIED
    assert after is not None and after is not before
    stage = before.stage if cell == "." and before else ABBREVIATED[cell]
    assert after.stage is stage
    assert after.updated_at == record(fact, 1000).at
    moved = before is None or before.stage is not stage
    assert (after.changed_at == after.updated_at) is moved


def test_the_table_knows_every_stage_and_every_kind():
    assert set(TABLE) == {None, *Stage}
    assert set(STATUS_OF) == set(Stage)
    admitted = {fact for row in TABLE.values() for fact in row}
    assert admitted == set(REQUESTS.kinds.values())
    assert all(issubclass(fact, RequestFact) for fact in admitted)


@pytest.mark.parametrize("stage", Stage)
def test_the_usual_way_leads_to_each_stage(stage):
    state = folded(ROUTES[stage])
    assert state is not None
    assert (state.stage, state.key, state.status) == (stage, KEY, STATUS_OF[stage])


def test_every_stage_can_be_reached_and_left():
    goals = {goal for row in TABLE.values() for goal in row.values()}
    assert goals >= set(Stage)
    stuck = [s for s in Stage if all(goal in (None, s) for goal in TABLE[s].values())]
    assert stuck == []
    assert {stage for stage in Stage if STATUS_OF[stage] not in ("PENDING", "PROCESSING")} == {
        *TERMINAL,
        Stage.UNBACKED,
    }
