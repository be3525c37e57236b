"""What an endpoint and a purse allow: so many requests and tokens a minute, so much money."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from mis.errors import MisError

MINUTE_S = 60.0


class BudgetReached(MisError):
    """The next request might exceed the budget; nothing was sent. What was answered is kept."""

    status = 1


class Pace:
    """Spreads an amount a minute evenly: no minute ever holds more, and none begins with a burst."""

    def __init__(self, per_minute: float, clock: Callable[[], float] = time.monotonic):
        self.seconds = MINUTE_S / per_minute
        self.clock = clock
        self.free_at = clock()

    def take(self, amount: float) -> float:
        """Reserves `amount`; returns the seconds to wait before it may be used."""
        now = self.clock()
        start = max(now, self.free_at)
        self.free_at = start + amount * self.seconds
        return start - now

    def give_back(self, amount: float) -> None:
        """What was reserved and not used; a negative amount is what was used beyond it."""
        self.free_at -= amount * self.seconds


class Purse:
    """Money: `spent`, and `reserved` for what is in flight; the two never exceed `budget`."""

    def __init__(self, budget: float, spent: float):
        self.budget, self.spent, self.reserved = budget, spent, 0.0
        self._settled = asyncio.Condition()

    async def reserve(self, most: float) -> None:
        """Waits until `most` fits beside what is in flight; raises :class:`BudgetReached` if it never will."""
        async with self._settled:
            while self.spent + self.reserved + most > self.budget:
                if not self.reserved:
                    raise BudgetReached(
                        f"the budget of {self.budget:g} is used up: {self.spent:.4f} spent, and one more request may "
                        f"cost {most:.4f}; raise `budget` and run the same command again to go on"
                    )
                await self._settled.wait()
            self.reserved += most

    async def settle(self, most: float, cost: float) -> None:
        """Ends a reservation of `most`, of which `cost` was spent."""
        async with self._settled:
            self.reserved -= most
            if self.reserved < 1e-12:  # sums of floats that cancel
                self.reserved = 0.0
            self.spent += cost
            self._settled.notify_all()
