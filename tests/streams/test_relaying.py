"""Which owners a relayer keeps, and which start anew, when the assignment changes."""

from __future__ import annotations

import asyncio

import pytest

from streams.relaying import Relayer


class Kept:
    """An owner that does nothing; the model of all of them here."""

    def __init__(self) -> None:
        self.key, self.reason = "5920:a", None

    def offer(self, _: object) -> None: ...

    def hurry(self) -> None: ...

    async def run(self) -> None:
        await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("generations", "owners"),
    [((7, 8, 9), 1), ((7, 7), 1), ((7, 9), 2), ((7, 8, 10), 2), ((7, 2), 2)],
)
async def test_owners_start_anew_where_assignments_passed_without_us(generations, owners):
    made: list[Kept] = []

    def make() -> Kept:
        made.append(Kept())
        return made[-1]

    told: list[int] = []
    relayer = Relayer({"5920:a": (3, make)}, lambda: told[-1])
    for generation in generations:
        told.append(generation)
        await relayer.own({3})
    assert len(made) == owners
    assert list(relayer.owners) == made[-1:]
    await relayer.close()
    assert not relayer.owners
