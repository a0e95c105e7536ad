"""What calls of one shape used of gas, learnt from the lane's own mined transactions."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from schemas.lanes import RelayRequested

SAMPLES_KEPT = 32
SAMPLES_NEEDED = 16
SHAPES_KEPT = 64
Shape = tuple[str, str, int]


def call_shape(request: RelayRequested) -> Shape:
    """Contract, function selector and length of the data: a longer id costs more gas."""
    return request.contract, request.data[:10], len(request.data)


@dataclass(slots=True)
class GasMemory:
    """The newest gas figures per shape; a failure forgets its shape."""

    _used: dict[Shape, deque[int]] = field(default_factory=dict)

    def learn(self, shape: Shape, gas_used: int | None) -> None:
        """`gas_used` of a success, None for a failure."""
        samples = self._used.pop(shape, None)
        if gas_used is None:
            return
        if samples is None:
            samples = deque(maxlen=SAMPLES_KEPT)
        samples.append(gas_used)
        self._used[shape] = samples
        if len(self._used) > SHAPES_KEPT:
            del self._used[next(iter(self._used))]

    def limit(self, shape: Shape) -> int | None:
        """Half more than the most that was used, rounded up; None while too little is known."""
        samples = self._used.get(shape)
        if samples is None or len(samples) < SAMPLES_NEEDED:
            return None
        return -(-max(samples) * 3 // 2)
