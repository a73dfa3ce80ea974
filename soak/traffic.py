"""What the clients of a day do: message by message, more of them by day than by night. No I/O."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

from benchmarks import sample
from benchmarks.contestants.base import Step

CONTACTS, GROUPS = 20, 3
PRE_KEYS = 30
REFILL = 5
"""Below so many a client uploads new ones."""


def rate(hour: float) -> float:
    """Give the share of the day's busiest rate: 1 at three in the afternoon, 0.1 at night."""
    return 0.1 + 0.9 * max(0.0, math.sin(math.pi * (hour % 24 - 6) / 18))


class Client:
    """One company's chats, as its WhatsApp client sees them.

    Args:
        number: makes its random bytes its own.

    Attributes:
        chance: its random numbers.
        next_pre_key: the number of the next pre-key it makes, which creds count.
    """

    def __init__(self, number: int) -> None:
        self.chance = random.Random(number)
        self._templates: dict[str, list[str]] = {}
        for (key_type, _), text in sample.texts().items():
            self._templates.setdefault(key_type, []).append(text)
        self._unused: list[int] = []
        self.next_pre_key = 1

    def begin(self, unused: list[int], next_pre_key: int) -> list[Step]:
        """Give what a client does when it has connected: enough pre-keys are there.

        Args:
            unused: the numbers of the pre-keys that are stored.
            next_pre_key: the number that creds count.
        """
        self._unused, self.next_pre_key = unused, next_pre_key
        return self._refill()

    def message(self) -> Iterator[Step]:
        """Give the calls of one message: received or sent, in a chat or a group."""
        if self.chance.random() < 0.2:
            yield from self._group_message()
            return
        user = str(15550300000 + self.chance.randrange(CONTACTS))
        address = f"{user}.0"
        yield ("get", "lid-mapping", [user])
        yield ("get", "session", [address])
        data = {"session": {address: self._made("session")}}
        if self.chance.random() < 0.02:
            # A contact has a new phone: the first message eats a pre-key.
            used = str(self._unused.pop(0))
            yield ("get", "pre-key", [used])
            data |= {"pre-key": {used: None}, "identity-key": {address: self._made("identity-key")}}
        yield ("set", data)
        yield from self._refill()

    def _group_message(self) -> Iterator[Step]:
        group = f"1203630000000{self.chance.randrange(GROUPS):05}@g.us"
        sender = f"{group}::{15550400000 + self.chance.randrange(4)}::0"
        yield ("get", "sender-key", [sender])
        yield ("set", {"sender-key": {sender: self._made("sender-key")}})

    def _refill(self) -> list[Step]:
        if len(self._unused) > REFILL:
            return []
        numbers = range(self.next_pre_key, self.next_pre_key + PRE_KEYS)
        self._unused.extend(numbers)
        self.next_pre_key = numbers.stop
        return [("set", {"pre-key": {str(number): self._made("pre-key") for number in numbers}})]

    def _made(self, key_type: str) -> sample.Document:
        text = self.chance.choice(self._templates[key_type])
        return sample.fresh(key_type, text, self.chance)
