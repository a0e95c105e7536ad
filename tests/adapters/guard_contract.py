"""What every `ports.SigningGuard` must do. A subclass gives the fixtures `guard`, `another` (of the
same kind, with a record of its own) and `now` (Unix seconds, by the guard's clock); the margin is
`MARGIN_SECONDS`."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from orchestrator.core.guarding import Entry, Proof, RefusalKind
from orchestrator.ports import SigningGuard

MARGIN_SECONDS = 120


def entry(number: int = 1, **changes: object) -> Entry:
    made = Entry(
        request_key=f"mint-{number}",
        digest="0x" + f"{number:064x}",
        attempt=1,
        chain_id=5920,
        contract="0x5FbDB2315678afecb367f032d93F642f64180aa3",
        contract_id=f"mint-{number}",
        account="0x00000000000000000000000000000000000A11CE",
        amount=2**255,
        nonce=2**200 + number,
        deadline=4_000_000_000,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def other(number: int = 1, **changes: object) -> Entry:
    return entry(number, **{"digest": "0x" + f"{number:063x}f", "attempt": 2, **changes})


class GuardContract:
    async def test_the_same_digest_is_allowed_for_ever(self, guard: SigningGuard) -> None:
        for _ in range(3):
            assert await guard.claim(entry()) is None
        assert await guard.claim(entry(attempt=2)) is None
        assert await guard.entries() == [entry()]

    async def test_a_second_live_digest_is_refused(self, guard: SigningGuard) -> None:
        assert await guard.claim(entry()) is None
        for _ in range(2):
            refusal = await guard.claim(other(deadline=4_000_000_100))
            assert refusal is not None and refusal.kind is RefusalKind.EQUIVOCATION
            assert refusal.alarming and entry().digest in refusal.detail
            assert not refusal.overtaken
        assert await guard.entries() == [entry()], "what was refused is on no record"
        assert await guard.claim(entry()) is None

    async def test_of_two_at_once_one_is_allowed(self, guard: SigningGuard) -> None:
        for number in range(10):
            verdicts = await asyncio.gather(
                *(guard.claim(made) for made in (entry(number), other(number)))
            )
            assert sum(verdict is None for verdict in verdicts) == 1
        assert len(await guard.entries()) == 10

    async def test_the_dead_make_way(self, guard: SigningGuard, now: int) -> None:
        """The old one is not allowed again beside the new one."""
        old = entry(deadline=now - MARGIN_SECONDS - 60)
        assert await guard.claim(old) is None
        assert await guard.claim(other(attempt=2)) is None
        refusal = await guard.claim(old)
        assert refusal is not None and refusal.kind is RefusalKind.EQUIVOCATION
        assert refusal.overtaken and refusal.alarming

    async def test_within_the_margin_it_waits_and_does_not_cry(
        self, guard: SigningGuard, now: int
    ) -> None:
        assert await guard.claim(entry(deadline=now - MARGIN_SECONDS // 2)) is None
        refusal = await guard.claim(other())
        assert refusal is not None and refusal.kind is RefusalKind.NOT_YET
        assert not refusal.alarming

    async def test_another_purpose_is_never_allowed(self, guard: SigningGuard) -> None:
        assert await guard.claim(entry(deadline=1)) is None
        for change in (
            {"chain_id": 5921},
            {"contract": "0x00000000000000000000000000000000000000C0"},
            {"contract_id": "mint-x"},
            {"account": "0x0000000000000000000000000000000000000B0B"},
            {"amount": 1},
        ):
            refusal = await guard.claim(other(**change))
            assert refusal is not None and refusal.kind is RefusalKind.OTHER_PURPOSE
        assert await guard.claim(other()) is None

    async def test_nonces_in_order_are_outrun_by_proof(self, guard: SigningGuard) -> None:
        proof = Proof(1, "NONCE_TAKEN", 77, 1_800_000_000)
        later = other(nonce=entry().nonce + 1, proof=proof)
        assert await guard.claim(entry()) is None
        for unproved in (
            replace(later, proof=None),
            replace(later, proof=replace(proof, attempt=0)),
            replace(later, nonce=entry().nonce),
            replace(later, nonce=entry().nonce - 1),
        ):
            assert await guard.claim(unproved) is not None
        assert await guard.claim(later) is None
        assert await guard.claim(entry()) is not None, "the outrun one does not come back"
        assert await guard.entries() == [entry(), later], "with the proof on the record"

    async def test_any_text_is_a_key(self, guard: SigningGuard) -> None:
        made = entry(request_key="a\0b\\0ü'\"; --", contract_id="\\")
        assert await guard.claim(made) is None
        assert await guard.entries() == [made]
        assert await guard.claim(other(request_key="a\\0b\\0ü'\"; --")) is None

    async def test_many_at_once(self, guard: SigningGuard) -> None:
        verdicts = await asyncio.gather(*(guard.claim(entry(number)) for number in range(500)))
        assert verdicts == [None] * 500
        assert len(await guard.entries()) == 500

    async def test_another_record_is_taken_in(
        self, guard: SigningGuard, another: SigningGuard
    ) -> None:
        await guard.claim(entry(1))
        await another.claim(entry(1))
        await another.claim(entry(2))
        assert await guard.merge(await another.entries()) == []
        assert await guard.merge(await another.entries()) == []
        assert {made.digest for made in await guard.entries()} == {
            entry(1).digest,
            entry(2).digest,
        }
        assert await guard.claim(other(2)) is not None, "a restored replica signs no second one"

    async def test_conflicts_are_told_and_nothing_is_taken_in(
        self, guard: SigningGuard, another: SigningGuard
    ) -> None:
        await guard.claim(entry(1))
        await another.claim(other(1))
        await another.claim(entry(2))
        [told] = await guard.merge(await another.entries())
        assert told.startswith("mint-1 ") and "EQUIVOCATION" in told
        [told] = await guard.merge([entry(1, deadline=4_000_000_001), entry(3)])
        assert "another content" in told
        assert await guard.entries() == [entry(1)]

    async def test_a_history_is_no_conflict(
        self, guard: SigningGuard, another: SigningGuard, now: int
    ) -> None:
        old = entry(deadline=now - MARGIN_SECONDS - 60)
        await guard.claim(other())
        assert await guard.merge([old]) == []
        await another.claim(old)
        assert await another.merge([other(), old]) == []
