"""Conversations that go their random way: messages lost, late or repeated, devices replaced.

A model knows of every message whether it must be read, and the clients have to agree, step by step.
Left out are two known faults of the libraries, which no store can mend: late messages of a closed
session (libsignal damages the open one), and Node's group messages that were overtaken.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any, Protocol

import pytest

from supabase_auth_state.config import Settings
from tests.interop.python_peer import Open

MOST_UNDER_WAY = 6
MOST_TURNS_LATE = 6
"""pyaileys keeps five receiving chains; what is later than these is lost anyway."""

UNREADABLE = (
    "No session record|No matching sessions|Key used already|no session for msg|old counter"
    "|Invalid PreKey|one-time pre-key|MAC"
)


class Device:
    """One company: a device with an identity of its own, closed and opened again at any time."""

    def __init__(self, settings: Settings, open_party: Open, company_id: str) -> None:
        self._settings = settings
        self._open_party = open_party
        self._company_id = company_id
        self._bundles = asyncio.Lock()
        self.party: Any

    async def open(self) -> None:
        self.party = await self._open_party(self._settings, company=self._company_id, lease=True)

    async def close(self) -> None:
        await self.party.auth.close()

    async def restart(self) -> None:
        await self.close()
        await self.open()

    async def bundle(self) -> dict[str, Any]:
        async with self._bundles:
            bundle: dict[str, Any] = await self.party.bundle()
            return bundle


@dataclass(eq=False)
class End:
    """One end of a conversation: an address, and the device that answers to it.

    Attributes:
        user: the number.
        device: the device of today.
        later: devices that may replace it, each with another identity.
        names: the addresses under which the other end knows this one.
        can_write: whether this end has a session that the other end shares.
    """

    user: str
    device: Device
    later: list[Device]
    can_write: bool = False
    names: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.names = [self.number]

    @property
    def number(self) -> str:
        return f"{self.user}@s.whatsapp.net"

    @property
    def lid(self) -> str:
        return f"9{self.user}@lid"

    @property
    def party(self) -> Any:
        return self.device.party


@dataclass(frozen=True, eq=False)
class Message:
    writer: End
    reader: End
    text: str
    sealed: dict[str, str]
    turn: int


class Talk(Protocol):
    """A conversation: any number of random steps, then an end at which everything is delivered."""

    rng: random.Random

    async def step(self) -> None: ...

    async def finish(self) -> None: ...


class DirectTalk:
    """Two ends, a Double Ratchet session between them, and mail under way."""

    def __init__(self, rng: random.Random, ends: tuple[End, End]) -> None:
        self.rng = rng
        self.ends = ends
        self.under_way: list[Message] = []
        self.read: list[Message] = []
        self.written = 0
        self.turn = 0

    async def step(self) -> None:
        if not any(end.can_write for end in self.ends):
            await self.meet(self.rng.choice(self.ends))
            return
        [action] = self.rng.choices(
            [
                *(self.write, self.deliver, self.lose, self.repeat),
                *(self.replace, self.start_over, self.learn_lid),
            ],
            [40, 40, 6, 6, 5, 3, 3],
        )
        await action()

    async def finish(self) -> None:
        """Deliver what is under way, late as it is, and see that both ends can still write."""
        while self.under_way:
            await self.deliver()
        for writer in (*self.ends, *self.ends):
            if not writer.can_write:
                await self.meet(writer)
            await self.write(writer)
            await self.deliver()

    async def meet(self, writer: End) -> None:
        """Fetch the other end's pre-keys; it has to hear from this one before it writes."""
        reader = self.other(writer)
        bundle = await reader.device.bundle()
        await writer.party.inject(jid=self.rng.choice(reader.names), bundle=bundle)
        writer.can_write, reader.can_write = True, False
        self.under_way.clear()
        self.read.clear()

    async def write(self, writer: End | None = None) -> None:
        if writer is None:
            writer = self.rng.choice([end for end in self.ends if end.can_write])
        reader = self.other(writer)
        self.written += 1
        text = f"{self.written} " + "".join(self.rng.choices("ab \u00e9\u65e5\U0001f600", k=8))
        sealed = await writer.party.encrypt(jid=self.rng.choice(reader.names), text=text)
        self.under_way.append(Message(writer, reader, text, sealed, self.turn))
        if len(self.under_way) > MOST_UNDER_WAY:
            await self.deliver()

    async def deliver(self) -> None:
        if not self.under_way:
            return
        late = self.rng.random() < 0.4
        message = self.under_way.pop(self.rng.randrange(len(self.under_way)) if late else 0)
        assert await self.open(message) == message.text
        if not self.read or self.read[-1].reader is not message.reader:
            self.turn += 1
        self.read.append(message)
        message.reader.can_write = True
        self.under_way = [m for m in self.under_way if self.turn - m.turn <= MOST_TURNS_LATE]

    async def lose(self) -> None:
        if self.under_way:
            self.under_way.pop(self.rng.randrange(len(self.under_way)))

    async def repeat(self) -> None:
        """Deliver a message again: it was read, so its key is gone."""
        if self.read:
            await self.cannot_open(self.rng.choice(self.read))

    async def replace(self) -> None:
        """Give one end another device and identity; the other may learn of it the hard way."""
        end = self.rng.choice(self.ends)
        if not end.later:
            return
        end.device = end.later.pop(0)
        end.can_write = False
        writer = self.other(end)
        writer.names = [writer.number]
        if writer.can_write and self.rng.random() < 0.5:
            sealed = await writer.party.encrypt(jid=end.number, text="is that you?")
            await self.cannot_open(Message(writer, end, "", sealed, self.turn))
        await self.meet(self.rng.choice(self.ends))

    async def start_over(self) -> None:
        """Fetch pre-keys again although there is a session, as after a retry receipt."""
        await self.meet(self.rng.choice(self.ends))

    async def learn_lid(self) -> None:
        """Let one end learn the other's LID, and move the session there; WAeys alone does that."""
        end = self.rng.choice(self.ends)
        party = self.other(end).party
        if not hasattr(party, "store_lid") or len(end.names) == 2:
            return
        await party.store_lid(pairs=[{"lid": end.lid, "pn": end.number}])
        await party.auth.keys.set({"device-list": {end.user: ["0"]}})
        await party.migrate(**{"from": end.number, "to": end.lid})
        end.names.append(end.lid)

    async def open(self, message: Message) -> str:
        jid = self.rng.choice(message.writer.names)
        text: str = await message.reader.party.decrypt(jid=jid, **message.sealed)
        return text

    async def cannot_open(self, message: Message) -> None:
        with pytest.raises(Exception, match=UNREADABLE):
            await self.open(message)

    def other(self, end: End) -> End:
        return self.ends[1] if end is self.ends[0] else self.ends[0]


class GroupTalk:
    """One end writes to a group, the other reads; the key of the group travels first."""

    def __init__(self, rng: random.Random, ends: tuple[End, End], group: str) -> None:
        self.rng = rng
        self.writer, self.reader = ends
        self.group = group
        self.under_way: list[tuple[str, str]] = []
        self.read: list[str] = []
        self.has_key = False
        self.written = 0

    async def step(self) -> None:
        if not self.has_key:
            await self.hand_over_key()
            return
        [action] = self.rng.choices(
            [self.write, self.deliver, self.lose, self.repeat, self.replace], [40, 40, 8, 8, 4]
        )
        await action()

    async def finish(self) -> None:
        if not self.has_key:
            await self.hand_over_key()
        await self.write()
        while self.under_way:
            await self.deliver()

    async def hand_over_key(self) -> None:
        """Give the reader the key as it is now: earlier messages stay closed to a new reader."""
        sent = await self._seal("my key")
        await self.reader.party.accept_sender_key(
            group=self.group, author=self._author, skdm=sent["skdm"]
        )
        self.has_key = True
        self.under_way.clear()
        self.read.clear()

    async def write(self) -> None:
        self.written += 1
        text = f"{self.written} to the group"
        sent = await self._seal(text)
        self.under_way.append((text, sent["ciphertext"]))

    async def deliver(self) -> None:
        if not self.under_way:
            return
        late = self.rng.random() < 0.4
        text, sealed = self.under_way.pop(self.rng.randrange(len(self.under_way)) if late else 0)
        assert await self._open(sealed) == text
        self.read.append(sealed)

    async def lose(self) -> None:
        if self.under_way:
            self.under_way.pop(self.rng.randrange(len(self.under_way)))

    async def repeat(self) -> None:
        if self.read:
            with pytest.raises(Exception, match="old counter"):
                await self._open(self.rng.choice(self.read))

    async def replace(self) -> None:
        """Give one end another device; it has no key of the group, or a new one."""
        end = self.rng.choice([self.writer, self.reader])
        if end.later:
            end.device = end.later.pop(0)
            self.has_key = False

    @property
    def _author(self) -> str:
        return self.writer.names[0]

    async def _seal(self, text: str) -> dict[str, str]:
        sent: dict[str, str] = await self.writer.party.encrypt_group(
            group=self.group, me=self._author, text=text
        )
        return sent

    async def _open(self, sealed: str) -> str:
        text: str = await self.reader.party.decrypt_group(
            group=self.group, author=self._author, ciphertext=sealed
        )
        return text
