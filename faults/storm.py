"""Random faults for many companies at once, and what every caller was told, checked at the end."""

from __future__ import annotations

import asyncio
import base64
import random
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace

from devstack import LocalStack
from supabase_auth_state import Settings, open_rest

from . import actions
from .chaos import Chaos
from .node_client import NodeClient, NodeProcess
from .proxy import Answer, Exchange, Fault, Landing, Proxy
from .recorder import KEYS, Client, History, PythonClient, Recorded
from .requests import is_any
from .tables import execute, plain, sealing_of, stored

_PATIENCE = 1.0
# After this, nothing that a crashed client has sent may be executed any more.
_LANDS_WITHIN = 1.5 * _PATIENCE
_LATE = (0.0, 1.2)
_IN_NODE = 1 / 3
_PAGE = b"<!doctype html><html><body>please wait</body></html>"

_READ_ONLY = b"""{"code": "25006", "details": null, "hint": null,
"message": "cannot execute INSERT in a read-only transaction"}"""
_NO_SCHEMA = b"""{"code": "PGRST002", "details": null, "hint": null,
"message": "Could not query the database for the schema cache. Retrying."}"""

_STATUSES: dict[str, tuple[int, bytes, dict[str, str]]] = {
    "401": (401, b'{"message":"Invalid authentication credentials"}', {}),
    "402": (402, b'{"message":"exceed_egress_quota"}', {}),
    "405, read-only": (
        405,
        _READ_ONLY,
        {},
    ),
    "404, schema cache": (
        404,
        b'{"code":"PGRST202","message":"Could not find the function","details":null,"hint":null}',
        {},
    ),
    "429": (429, b'{"message":"API rate limit exceeded"}', {"retry-after": "0"}),
    "429, wait a second": (429, b'{"message":"API rate limit exceeded"}', {"retry-after": "1"}),
    "500": (500, b'{"message":"An unexpected error occurred"}', {}),
    "502, a page": (502, _PAGE, {}),
    "503, schema cache": (
        503,
        _NO_SCHEMA,
        {},
    ),
    "504, a page": (504, _PAGE, {}),
    "540, a page": (540, _PAGE, {}),
    "544": (544, b'{"message":"Project is paused"}', {}),
    "200, a page": (200, _PAGE, {}),
    "200, an empty object": (200, b"{}", {}),
}


@dataclass(frozen=True)
class Violated:
    """A promise that was broken.

    Attributes:
        seed: what to give to `--seed` to repeat the epoch.
        epoch: the epoch, from 1.
        company: the company.
        trace: what was not possible, and everything that was done to the company.
    """

    seed: int
    epoch: int
    company: str
    trace: str

    def __str__(self) -> str:
        return f"seed {self.seed}, epoch {self.epoch}, {self.company}:\n{self.trace}"


@dataclass
class Report:
    """What a storm did, and what came of it.

    Attributes:
        faults: how many requests met each fault.
        servers: how often each thing happened to a server.
        clients: how many clients there were, by their language.
        outcomes: how many calls ended in each way, by what they were.
        violations: the promises that were broken.
    """

    faults: Counter[str] = field(default_factory=Counter)
    servers: Counter[str] = field(default_factory=Counter)
    clients: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    violations: list[Violated] = field(default_factory=list)

    @property
    def total(self) -> int:
        """How many faults there were."""
        return sum(self.faults.values()) + sum(self.servers.values())

    def lines(self) -> list[str]:
        """Return the report as text."""
        found = [f"{self.total} faults"]
        for title, counted in (
            ("requests", self.faults), ("servers", self.servers), ("clients", self.clients),
            ("calls", self.outcomes),
        ):  # fmt: skip
            found.append(f"{title}:")
            found += [f"  {count:6} {name}" for name, count in sorted(counted.items())]
        found.append(f"{len(self.violations)} violations")
        return found + [line for one in self.violations for line in str(one).splitlines()]


@dataclass(frozen=True)
class Kind:
    """A kind of company.

    Attributes:
        name: what it is called in the names of companies.
        leases: the chances that a client opens it with a lease; one of them is chosen.
        lease_ttl: seconds for which a lease is taken.
        encryption: the keys that seal its values, or None.
    """

    name: str
    leases: tuple[bool, ...]
    lease_ttl: float
    encryption: str | None = None


_PLAIN = (
    Kind("leases", (True,), 3),
    Kind("no leases", (False,), 3),
    # Long enough not to run out: while it has, clients without one may write as well.
    Kind("both", (True, False), 600),
)
_KEYS = f"k1:{base64.b64encode(bytes(range(32))).decode()}"
KINDS = (
    *_PLAIN,
    *(replace(kind, name=f"{kind.name}, sealed", encryption=_KEYS) for kind in _PLAIN),
)


class Line:
    """One process of a client, and its way to the server.

    Args:
        proxy: the way.
        chance: decides which requests meet which fault.
        share: how many requests do, from 0 to 1.
        faults: counts them.
    """

    def __init__(
        self, proxy: Proxy, chance: random.Random, share: float, faults: Counter[str]
    ) -> None:
        self.disturbed = 0
        self._proxy = proxy
        self._chance = chance
        self._share = share
        self._faults = faults
        self._replayed = actions.Replayed()
        self._overtaken: asyncio.Event | None = None
        self._burst: tuple[float, str] = (0.0, "")
        self._later: set[asyncio.Task[object]] = set()
        proxy.on(is_any, self._handle)

    def cut(self) -> None:
        """Let nothing through any more but what is held."""
        self._proxy.clear()
        self._proxy.on(is_any, actions.dropped)

    async def landed(self) -> None:
        """Wait for what is held."""
        while self._later:
            await asyncio.wait(self._later)

    async def _handle(self, exchange: Exchange) -> Answer | None:
        overtaken, self._overtaken = self._overtaken, None
        try:
            now = asyncio.get_running_loop().time()
            if now < self._burst[0]:
                name, fault = f"{self._burst[1]}, burst", self._status(self._burst[1], False)
            elif self._chance.random() >= self._share:
                return await exchange.forward()
            else:
                name, fault = self._chosen()
            self._faults[name] += 1
            self.disturbed += 1
            return await fault(exchange)
        finally:
            if overtaken is not None:
                overtaken.set()

    def _chosen(self) -> tuple[str, Fault]:
        faults: dict[str, Callable[[], Fault]] = {
            "dropped": lambda: actions.dropped,
            "answer lost": lambda: actions.answer_lost,
            "held": lambda: actions.held(self._landing()),
            "doubled": lambda: actions.doubled(self._landing()),
            "doubled at once": actions.doubled,
            "delayed": lambda: actions.delayed(self._event()),
            "answer delayed": lambda: actions.answer_delayed(self._event()),
            "truncated": actions.truncated,
            "redirected": lambda: actions.redirected(self._proxy.url),
            "answer to an earlier request": lambda: self._replayed,
            "overtaken by the next one": lambda: actions.delayed(self._next_passes()),
        }
        name = self._chance.choice([*faults, *["answered instead"] * 4])
        if name == "answered instead":
            status = self._chance.choice(list(_STATUSES))
            if self._chance.random() < 0.1:
                until = asyncio.get_running_loop().time() + self._chance.uniform(*_LATE)
                self._burst = until, status
            sent = self._chance.random() < 0.3
            return f"{status}, {'executed' if sent else 'not executed'}", self._status(status, sent)
        return name, faults[name]()

    def _status(self, name: str, executed: bool) -> Fault:
        status, body, headers = _STATUSES[name]
        content_type = "application/json" if body.startswith(b"{") else "text/html"
        return actions.answered(
            status, body, content_type=content_type, headers=headers, forward=executed
        )

    def _landing(self) -> Landing:
        landing = Landing()

        async def land() -> None:
            await asyncio.sleep(self._chance.uniform(*_LATE))
            await landing.land()

        self._keep(asyncio.get_running_loop().create_task(land()))
        return landing

    def _event(self) -> asyncio.Event:
        event = asyncio.Event()

        async def set_it() -> None:
            await asyncio.sleep(self._chance.uniform(*_LATE))
            event.set()

        self._keep(asyncio.get_running_loop().create_task(set_it()))
        return event

    def _next_passes(self) -> asyncio.Event:
        """Return an event that the next request sets when it was answered, or time does."""
        self._overtaken = self._event()
        return self._overtaken

    def _keep(self, task: asyncio.Task[object]) -> None:
        self._later.add(task)
        task.add_done_callback(self._later.discard)


class Company:
    """One company in an epoch, with several clients that come and go.

    Args:
        stack: where.
        kind: how it is opened.
        chance: decides everything.
        report: where faults are counted.
        opened: closes what is opened.
        node: where clients in Node run.
    """

    def __init__(
        self,
        stack: LocalStack,
        kind: Kind,
        chance: random.Random,
        *,
        report: Report,
        opened: AsyncExitStack,
        node: NodeProcess,
    ) -> None:
        self.history = History(f"storm-{kind.name}-{uuid.uuid4().hex}")
        self._sealing = sealing_of(self.history.company_id, kind.encryption)
        self._stack = stack
        self._kind = kind
        self._chance = chance
        self._report = report
        self._opened = opened
        self._node = node
        self._lines: list[Line] = []
        self._entered: list[Recorded] = []
        self._line_of: dict[Recorded, Line] = {}
        self._crashed: list[asyncio.Task[None]] = []

    async def run(self, clients: int, goes_on: Callable[[], bool]) -> None:
        """Let clients work for as long as it goes on."""
        await asyncio.gather(*(self._client(number, goes_on) for number in range(clients)))

    async def check(self) -> str | None:
        """Wait for what is late, look at the tables and say what is wrong, if anything is."""
        for line in self._lines:
            await line.landed()
        await asyncio.gather(*self._crashed)
        self.history.end_what_is_left()
        self.history.observe(await stored(self._stack, self.history.company_id, self._sealing))
        self.history.settle_limits(self._entered)
        if self._sealing.seals is not None:
            found = await plain(self._stack, self.history.company_id)
            self.history.problems += [f"{name} is stored plain" for name in found]
        return self.history.wrong()

    async def _client(self, number: int, goes_on: Callable[[], bool]) -> None:
        life = 0
        while goes_on():
            life += 1
            recorded = await self._begin(f"client {number}.{life}")
            lease = self._chance.choice(self._kind.leases)
            while not await recorded.open(lease=lease, lease_ttl=self._kind.lease_ttl):
                await asyncio.sleep(self._chance.uniform(0.05, 0.3))
                if not goes_on():
                    return
            for _ in range(self._chance.randint(5, 60)):
                if not goes_on():
                    break
                await self._calls(recorded)
            if self._chance.random() < 0.3:
                await self._crash(recorded)
            else:
                await recorded.close()

    async def _begin(self, name: str) -> Recorded:
        proxy = await self._opened.enter_async_context(Proxy(self._stack.url))
        share = self._chance.choice([0.05, 0.2, 0.4])
        line = Line(proxy, self._chance, share, self._report.faults)
        self._lines.append(line)
        recorded = Recorded(self.history, name, self._new_client(proxy), lambda: line.disturbed)
        self._line_of[recorded] = line
        self._entered.append(recorded)
        return recorded

    def _new_client(self, proxy: Proxy) -> Client:
        """Return one in Node or in Python."""
        key, encryption = self._stack.service_role_key, self._kind.encryption
        sealed = "" if encryption is None else ", sealed"
        if self._chance.random() < _IN_NODE:
            self._report.clients[f"Node{sealed}"] += 1
            return NodeClient(self._node, proxy.url, key, _PATIENCE, encryption)
        self._report.clients[f"Python{sealed}"] += 1
        rest = open_rest(
            Settings(
                proxy.url, key, timeout=_PATIENCE, give_up_after=_PATIENCE / 2,
                encryption=encryption,
            )
        )  # fmt: skip
        self._opened.push_async_callback(rest.close)
        return PythonClient(rest)

    async def _calls(self, recorded: Recorded) -> None:
        """Make one call, or two at once."""
        count = self._chance.choice([1, 1, 2])
        await asyncio.gather(*(self._call(recorded) for _ in range(count)))

    async def _call(self, recorded: Recorded) -> None:
        keys = self._chance.sample(KEYS, self._chance.randint(1, len(KEYS)))
        what = self._chance.choices(
            ["set", "delete", "clear", "get", "save creds"], [8, 2, 0.5, 8, 2]
        )[0]
        if what == "set":
            await recorded.set(keys)
        elif what == "delete":
            await recorded.set(keys, delete=True)
        elif what == "clear":
            await recorded.clear()
        elif what == "get":
            await recorded.get(keys)
        else:
            await recorded.save_creds()

    async def _crash(self, recorded: Recorded) -> None:
        """Be gone while calls are under way; a lease ends at once, as its time would end it."""
        calls = [asyncio.ensure_future(self._call(recorded)) for _ in range(2)]
        await asyncio.wait(calls, timeout=self._chance.uniform(0, 0.05))
        self._line_of[recorded].cut()
        recorded.crash()
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)
        running = recorded.unended()
        self._crashed.append(asyncio.ensure_future(self._lands_no_more(running)))
        await execute(
            self._stack,
            "update whatsapp_leases set expires_at = clock_timestamp() - interval '1 second' "
            "where company_id = %s and owner is not null and token = %s",
            [self.history.company_id, recorded.token],
        )

    async def _lands_no_more(self, names: Sequence[str]) -> None:
        await asyncio.sleep(_LANDS_WITHIN)
        self.history.end_unknown(names)


async def epoch(
    stack: LocalStack,
    report: Report,
    *,
    seed: int,
    number: int,
    seconds: float,
    companies: int,
    servers: bool,
) -> None:
    """Let companies work under faults for a while, and check what came of it.

    Args:
        stack: a stack of its own; `Chaos.prepare` it when servers are disturbed.
        report: what is added to.
        seed: decides everything, with the number.
        number: the epoch, from 1.
        seconds: how long clients work at least; until every server works again.
        companies: how many there are.
        servers: whether servers are disturbed too.
    """
    chance = random.Random(f"{seed}-{number}")
    async with AsyncExitStack() as opened:
        node = await opened.enter_async_context(NodeProcess())

        def new_company(kind: Kind) -> Company:
            own = random.Random(chance.random())
            return Company(stack, kind, own, report=report, opened=opened, node=node)

        all_companies = [new_company(KINDS[n % len(KINDS)]) for n in range(companies)]
        chaos = Chaos(stack, random.Random(chance.random()))
        until = asyncio.get_running_loop().time() + seconds
        disturbing = asyncio.ensure_future(chaos.run(seconds - 1 if servers else 0))

        def goes_on() -> bool:
            return not disturbing.done() or asyncio.get_running_loop().time() < until

        working = [company.run(3, goes_on) for company in all_companies]
        await asyncio.gather(disturbing, *working)
        report.servers += chaos.done
        for company in all_companies:
            trace = await company.check()
            for operation in company.history.operations.values():
                kind = type(operation.effect).__name__.lower()
                report.outcomes[f"{kind}: {operation.outcome.value}"] += 1
            if trace is not None:
                name = company.history.company_id
                report.violations.append(Violated(seed, number, name, trace))
