"""What every anchor holds to, file or bucket."""

from __future__ import annotations

import asyncio

from orchestrator.ports import SealAnchor
from tests.core.test_sealing import sealed, three_days


class AnchorContract:
    """A subclass gives the fixtures `anchor` and `again`: another one on the same place."""

    async def test_what_is_put_stands_there_for_everyone(
        self, anchor: SealAnchor, again: SealAnchor
    ) -> None:
        _, seals = three_days()
        assert await anchor.days() == []
        assert await anchor.everything() == []
        assert await anchor.newest() is None
        for seal in seals:
            assert await anchor.read(seal.day) is None
            assert await anchor.put(seal.day, seal.document()) == seal.document()
        assert await again.days() == [seal.day for seal in seals]
        assert await again.newest() == (seals[-1].day, seals[-1].document())
        assert await again.read(seals[1].day) == seals[1].document()
        assert [body for _, body in await again.everything()] == [s.document() for s in seals]

    async def test_the_first_seal_of_a_day_stays(
        self, anchor: SealAnchor, again: SealAnchor
    ) -> None:
        one, other = (sealed(three_days()[0]).document() for _ in range(2))
        assert one != other
        day = three_days()[1][0].day
        assert await anchor.put(day, one) == one
        assert await again.put(day, other) == one
        assert await anchor.put(day, other) == one
        assert [body for _, body in await again.everything()] == [one]

    async def test_two_that_put_at_once_agree(self, anchor: SealAnchor, again: SealAnchor) -> None:
        documents = [sealed(three_days()[0]).document() for _ in range(8)]
        day = three_days()[1][0].day
        places = [anchor, again] * 4
        puts = (place.put(day, document) for place, document in zip(places, documents, strict=True))
        stands = set(await asyncio.gather(*puts))
        assert len(stands) == 1
        assert [body for _, body in await anchor.everything()] == list(stands)
