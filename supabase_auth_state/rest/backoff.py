"""How long to wait before trying again. Pure."""

from __future__ import annotations

import asyncio
import random as _random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

_MOST_DOUBLINGS = 64


@dataclass(frozen=True)
class Timing:
    """Where time and chance come from; a test passes its own.

    Attributes:
        now: seconds on a clock that never goes back.
        sleep: waits so many seconds.
        random: gives a number in [0, 1).
    """

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    random: Callable[[], float] = _random.random


def delay(
    attempt: int,
    *,
    base: float,
    cap: float,
    random: Callable[[], float] = _random.random,
) -> float:
    """Return the seconds to wait after failure number ``attempt``, the first being 0.

    The ceiling doubles from ``base`` with every failure and stops at ``cap``. The pause is half
    of the ceiling plus a random share of the other half: below the cap no pause is shorter than
    the one before could have been, and many processes that failed together do not come back
    together.

    Args:
        attempt: how many failures went before this one.
        base: ceiling of the first pause, in seconds.
        cap: ceiling of every pause, in seconds.
        random: gives a number in [0, 1); a test passes its own.
    """
    ceiling = min(cap, base * 2.0 ** min(attempt, _MOST_DOUBLINGS))
    return ceiling / 2 + ceiling / 2 * random()
