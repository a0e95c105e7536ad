"""Finding what is to be proved, on a log in memory."""

from __future__ import annotations

from orchestrator.core.sealing.proving import check
from orchestrator.sealing.proving import places_of, prove
from tests.core.test_sealing import KEYS, SEATS, record, sealed


class MemoryLog:
    """A `SealableLog` of a list."""

    def __init__(self, records):
        self._records = sorted(records, key=lambda r: r.offset)

    async def bounds(self):
        return dict.fromkeys(SEATS, (0, 1000))

    async def records(self, starts, ends, finished):
        for seat, start in starts.items():
            mine = [r for r in self._records if r[:2] == seat and start <= r.offset < ends[seat]]
            if mine:
                yield seat, mine

    async def close(self):
        pass


async def test_a_fact_and_a_request_are_found_where_they_stand():
    kuro = record(("kuro.events", 0), 0, key=b"m-1", headers=(("id", b"f-0"),))
    life = [
        record(SEATS[1], n, key=b"m-%d" % (n % 2), headers=(("id", b"f-%d" % n),)) for n in range(4)
    ]
    elsewhere = record(SEATS[0], 2, key=b"m-1", headers=(("id", b"f-3"),))
    records = [*life, elsewhere]
    log, seal = MemoryLog([kuro, *records]), sealed(records)

    def tell(step, done, total):
        assert done <= total or step == "looking"

    by_fact = await places_of(log, [seal], fact="f-3", tell=tell)
    assert by_fact == [(*SEATS[0], 2), (*SEATS[1], 3)]
    by_request = await places_of(log, [seal], request="m-1", tell=tell)
    assert by_request == [(*SEATS[1], 1), (*SEATS[1], 3)]
    for place in by_fact + by_request:
        assert all(one.holds for one in check(await prove(log, [seal], place), KEYS))
