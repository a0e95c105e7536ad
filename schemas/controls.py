"""`controls`: what operators order, with who and why. One partition, so all orders have one order.

An order is named by whoever gives it: the same order given again (a command whose answer was lost)
is the same fact, and an order id that is used again for something else is refused.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from schemas.base import Fact

EVERYTHING = "all"
SCOPE_PATTERN = (
    r"^(all|chain:[1-9][0-9]{0,18}|supply:[1-9][0-9]{0,18}"
    r"|wallet:[1-9][0-9]{0,18}:0x[0-9a-fA-F]{40}|request:.{1,500})$"
)
"""What a pause covers: everything, a chain, a wallet of a chain, a request. `supply:` covers a
chain too: the conservation gate gives such a pause, and a resumption that names it lifts it."""
SETTLING = "settles."

Scope = Annotated[str, Field(pattern=SCOPE_PATTERN)]
OrderId = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
Who = Annotated[str, Field(min_length=1, max_length=200)]
Why = Annotated[str, Field(min_length=1, max_length=2000)]
RequestKey = Annotated[str, Field(min_length=1, max_length=500)]


def chain_scope(chain_id: int) -> str:
    return f"chain:{chain_id}"


def supply_scope(chain_id: int) -> str:
    return f"supply:{chain_id}"


def settling(order: str) -> str:
    """The id of the one order that settles a pause of the conservation gate: it names the pause, so
    that what was meant for an earlier one lifts no later one."""
    return SETTLING + order


def wallet_scope(chain_id: int, wallet: str) -> str:
    """`wallet` checksummed, as lanes name it."""
    return f"wallet:{chain_id}:{wallet}"


def request_scope(request_key: str) -> str:
    return f"request:{request_key}"


class OrderFact(Fact):
    """`order` names the order, `who` gave it, `why` is for whoever reads it later."""

    order: OrderId
    who: Who
    why: Why

    @property
    def id(self) -> str:
        """By the order alone: one id never means two orders, of whatever kind."""
        return f"order:{self.order}"


class WorkPaused(OrderFact):
    """Nothing new is drafted, signed, prepared or sent out for this scope."""

    scope: Scope

    @property
    def key(self) -> str:
        return self.scope


class WorkResumed(OrderFact):
    """The pause of exactly this scope is over; what a wider or narrower pause covers stays so."""

    scope: Scope

    @property
    def key(self) -> str:
        return self.scope


class RetryOrdered(OrderFact):
    """Try this request again: a failed one anew, one that waits at once."""

    request_key: RequestKey

    @property
    def key(self) -> str:
        return request_scope(self.request_key)


class CancelOrdered(OrderFact):
    """Give this request up, as far as that is still possible."""

    request_key: RequestKey

    @property
    def key(self) -> str:
        return request_scope(self.request_key)
