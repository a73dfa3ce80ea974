"""A day's traffic in small: messages received and sent in chats and groups, replayed call for call.

The calls are those of Baileys 7.0.0-rc14: a received message asks for the sender's mapping, which
most contacts do not have, reads its session or sender-key and writes it back advanced; a first
message eats a pre-key; a message to a group rewrites our own sender-key, which grows with each.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from benchmarks import sample
from benchmarks.bench import Bench
from benchmarks.contestants.base import Chat, Step

ONE_BY_ONE, AT_ONCE = "message mix, one after the other", "message mix, 64 chats at once"
CHATS, GROUPS, MEMBERS, MESSAGES = 64, 16, 4, 10
NOTE = "Baileys' files are not synced to disk"
OWN = "15550100001"
GROWN = 400_000
"""Bytes of our own sender-key in the busiest group: near its cap, 2,000 leftover message keys."""


@dataclass
class Traffic:
    """What is stored beforehand, and what each chat then does."""

    chance: random.Random
    stored: sample.Keys = field(default_factory=dict)
    chats: list[Chat] = field(default_factory=list)

    def keep(self, key_type: str, key_id: str) -> sample.Keys:
        """Make a value of this key; the first one is what is stored beforehand."""
        document = _document(key_type, key_id, self.chance)
        self.stored.setdefault(key_type, {}).setdefault(key_id, document)
        return {key_type: {key_id: document}}


def traffic(seed: int, *, messages: int = MESSAGES) -> Traffic:
    """Make up the traffic of 64 chats: 48 of two, 16 groups, one with a grown sender-key."""
    made = Traffic(random.Random(seed))
    for number in range(CHATS):
        make = _group if number < GROUPS else _direct
        steps = [step for message in range(messages) for step in make(made, number, message)]
        made.chats.append(steps)
    return made


async def run(bench: Bench) -> None:
    """Measure the group."""
    messages = 4 if bench.quick else MESSAGES
    days = [traffic(seed, messages=messages) for seed in range(2)]
    stores = await bench.contestants(days[0].stored, leases=True)
    short = [[_one_after_the_other(traffic(seed, messages=1).chats)] for seed in range(2)]
    for workload, variants, count in (
        (ONE_BY_ONE, short, CHATS),
        (AT_ONCE, [day.chats for day in days], CHATS * messages),
    ):
        actions = {name: store.replay(variants) for name, store in stores.items()}
        await bench.measure(workload, actions, rounds=10, warmups=2, messages=count, note=NOTE)


def _one_after_the_other(chats: list[Chat]) -> Chat:
    return [step for chat in chats for step in chat]


def _direct(made: Traffic, number: int, message: int) -> list[Step]:
    user = str(15550300000 + number)
    address = f"{user}.0"
    reads: list[Step] = [
        ("get", "lid-mapping", [user]),
        ("get", "lid-mapping", [f"{user}_reverse"]),
        ("get", "session", [address]),
    ]
    data = made.keep("session", address)
    if message == 0 and number % 8 == 0:
        pre_key = str(1000 + number)
        reads.append(("get", "pre-key", [pre_key]))
        made.keep("pre-key", pre_key)
        data |= {"pre-key": {pre_key: None}} | made.keep("identity-key", address)
    return [*reads, ("set", data)]


def _group(made: Traffic, number: int, message: int) -> list[Step]:
    group = f"1203630000000{number:05d}@g.us"
    if message % 2 == 0:
        return _group_send(
            made, group, own=f"{group}::{OWN}::0" if number else f"{group}::{OWN}::7"
        )
    member = 15550400000 + number * MEMBERS + message % MEMBERS
    sender = f"{group}::{member}::0"
    return [
        ("get", "lid-mapping", [f"{member}_reverse"]),
        ("get", "sender-key", [sender]),
        ("set", made.keep("sender-key", sender)),
    ]


def _group_send(made: Traffic, group: str, own: str) -> list[Step]:
    members = [f"{15550400000 + index}.0" for index in range(MEMBERS)]
    for address in members:
        made.keep("session", address)
    return [
        ("get", "sender-key-memory", [group]),
        ("get", "session", members),
        ("get", "sender-key", [own]),
        ("set", made.keep("sender-key", own) | made.keep("sender-key-memory", group)),
    ]


def _document(key_type: str, key_id: str, chance: random.Random) -> sample.Document:
    if key_id.endswith("::7"):
        return sample.own_sender_key(GROWN, chance)
    same_type = [text for (known, _), text in sample.texts().items() if known == key_type]
    return sample.fresh(key_type, chance.choice(same_type), chance)
