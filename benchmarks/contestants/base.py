"""What a contestant can be asked, and how a key store in this process answers."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeAlias

from benchmarks.sample import Document, Keys
from benchmarks.stats import Action, timed

Step: TypeAlias = "tuple[Literal['get'], str, list[str]] | tuple[Literal['set'], Keys]"
"""One call of a WhatsApp client on its key store; a document of None deletes."""

Chat: TypeAlias = list[Step]
"""The calls of one conversation, one after the other."""


class KeyStore(Protocol):
    """The two calls that every store has."""

    async def get(self, type: str, ids: Sequence[str]) -> Any:
        """Read values."""
        ...

    async def set(self, data: Mapping[str, Mapping[str, Any]]) -> Any:
        """Write values; None deletes."""
        ...


class Contestant(Protocol):
    """Prepares work outside of the measured time.

    Variants of data take turns, so that no two writes in a row store the same values.
    """

    name: str

    def get(self, key_type: str, ids: Sequence[str]) -> Action:
        """One read."""
        ...

    def set(self, variants: Sequence[Keys]) -> Action:
        """One write."""
        ...

    def gets_at_once(self, key_type: str, ids: Sequence[str]) -> Action:
        """One read of one id each, all at the same time."""
        ...

    def sets_at_once(self, key_type: str, variants: Sequence[Mapping[str, Document]]) -> Action:
        """One write of one value each, all at the same time."""
        ...

    def replay(self, variants: Sequence[Sequence[Chat]]) -> Action:
        """Chats at the same time, the steps of each in order."""
        ...


class StoreContestant:
    """A key store in this process.

    Args:
        name: what it is called in the tables.
        keys: the store.
        value_of: makes the store's own kind of value of a document.
    """

    def __init__(self, name: str, keys: KeyStore, value_of: Callable[[Document], Any]) -> None:
        self.name = name
        self.keys = keys
        self._value_of = value_of

    def get(self, key_type: str, ids: Sequence[str]) -> Action:
        """One read."""
        return timed(lambda: self.keys.get(key_type, ids))

    def set(self, variants: Sequence[Keys]) -> Action:
        """One write."""
        turns = itertools.cycle([self._values(variant) for variant in variants])
        return timed(lambda: self.keys.set(next(turns)))

    def gets_at_once(self, key_type: str, ids: Sequence[str]) -> Action:
        """Reads of one id each, all at the same time."""

        async def work() -> None:
            await asyncio.gather(*(self.keys.get(key_type, [key_id]) for key_id in ids))

        return timed(work)

    def sets_at_once(self, key_type: str, variants: Sequence[Mapping[str, Document]]) -> Action:
        """Writes of one value each, all at the same time."""
        turns = itertools.cycle(
            [
                [self._values({key_type: {key_id: value}}) for key_id, value in variant.items()]
                for variant in variants
            ]
        )

        async def work() -> None:
            await asyncio.gather(*(self.keys.set(data) for data in next(turns)))

        return timed(work)

    def replay(self, variants: Sequence[Sequence[Chat]]) -> Action:
        """Chats at the same time, the steps of each in order."""
        turns = itertools.cycle([[self._native(chat) for chat in chats] for chats in variants])

        async def work() -> None:
            await asyncio.gather(*(self._talk(chat) for chat in next(turns)))

        return timed(work)

    async def _talk(self, chat: Chat) -> None:
        for step in chat:
            if step[0] == "get":
                await self.keys.get(step[1], step[2])
            else:
                await self.keys.set(step[1])

    def _native(self, chat: Chat) -> Chat:
        return [("set", self._values(step[1])) if step[0] == "set" else step for step in chat]

    def _values(self, data: Mapping[str, Mapping[str, Document]]) -> dict[str, dict[str, Any]]:
        return {
            key_type: {
                key_id: None if document is None else self._value_of(document)
                for key_id, document in values.items()
            }
            for key_type, values in data.items()
        }
