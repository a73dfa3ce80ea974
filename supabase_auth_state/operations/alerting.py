"""Looks at the rules, takes their steps once for all processes, and delivers what is to be told."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from supabase_auth_state.errors import (
    ConfigurationError,
    SchemaMissing,
    StoreError,
    SupabaseAuthStateError,
)
from supabase_auth_state.rest.backoff import Timing, delay
from supabase_auth_state.rest.client import Rest

from .alert_config import AlertConfig
from .alert_states import AlertState, Notice, Rule, step
from .capacity import Plan
from .measures import Measures, measure, measure_failure
from .receivers import Message, Receiver, Undelivered, receiver_of
from .statistics import (
    PreKeyExtremes,
    read_growth,
    read_overview,
    read_pre_key_extremes,
    refresh,
)

log = logging.getLogger("supabase_auth_state")

_FEW, _MANY = 5, 5000
_NAMED = 20
_TAKEN_FOR = 60.0
_RETRY, _LONGEST_RETRY = 10.0, 900.0
_DELIVER_EVERY = 10.0


@dataclass(frozen=True)
class Standing:
    """A rule and where it stands.

    Attributes:
        rule: the rule.
        state: its state, which all processes share.
        value: what was measured now, or None when it is unknown.
        companies: the companies that break it, where it is about companies.
    """

    rule: Rule
    state: AlertState
    value: float | None
    companies: Sequence[str] = ()


@dataclass(frozen=True)
class Check:
    """What a look at the rules found.

    Attributes:
        time: when, in seconds since 1970.
        standings: every rule.
        told: rules of which something is told now, and what.
        reached: whether the database answered.
    """

    time: float
    standings: Sequence[Standing]
    told: Sequence[tuple[str, Notice]]
    reached: bool

    @property
    def firing(self) -> Sequence[Standing]:
        """The rules that fire."""
        return [each for each in self.standings if each.state.phase == "firing"]


class Alerts:
    """Rules, receivers and the database in which their state is.

    Any number of processes may look at the same rules: the one that takes a step first keeps its
    messages in the same transaction, and the others take none. While the database does not answer,
    each process knows of the rules about that by itself, and tells of them directly.

    Args:
        rest: where the database is.
        config: the rules and receivers.
        project: how messages name the project.
        timing: sleep and chance, for tests.
        clock: seconds since 1970, for tests; by default the database's time, or this machine's
            while the database does not answer.
        receivers: instead of those of ``config``, for tests.
    """

    def __init__(
        self,
        rest: Rest,
        config: AlertConfig,
        *,
        project: str = "",
        timing: Timing | None = None,
        clock: Any = None,
        receivers: Sequence[Receiver] | None = None,
    ) -> None:
        self._rest = rest
        self._config = config
        self._project = project
        self._timing = timing or Timing()
        self._clock = clock
        found = map(receiver_of, config.receivers) if receivers is None else receivers
        self._receivers = {receiver.name: receiver for receiver in found}
        self._local: dict[str, AlertState] = {}
        self._unsent: dict[str, list[Message]] = {name: [] for name in self._receivers}

    async def check(self) -> Check:
        """Look at every rule once, and keep what is to be told for `deliver`.

        Raises:
            ConfigurationError: the address or the certificate is wrong.
            SchemaMissing: the migrations are not applied.
        """
        try:
            return await self._check()
        except SchemaMissing:
            raise
        except StoreError as error:
            log.warning("alerts: the statistics cannot be read: %s", error)
            return self._check_alone(measure_failure(error))

    async def deliver(self) -> int:
        """Send what is due, to all receivers at once; return how many messages were not taken."""
        found = await asyncio.gather(*map(self._deliver_to, self._receivers.values()))
        return sum(found)

    async def test(self) -> Mapping[str, str]:
        """Send one message to every receiver; return by its name what went wrong, or ""."""
        message = self._message(
            "test", "test", "This is a test: alerts of supabase-auth-state arrive here.", {}
        )
        return dict(
            await asyncio.gather(*(self._try(each, message) for each in self._receivers.values()))
        )

    async def run(self, stopping: asyncio.Event) -> None:
        """Look and deliver until told to stop. A receiver that is dead delays nothing else."""
        tasks = [
            asyncio.ensure_future(self._keep_checking()),
            *(
                asyncio.ensure_future(self._keep_delivering(receiver))
                for receiver in self._receivers.values()
            ),
        ]
        stop = asyncio.ensure_future(stopping.wait())
        try:
            await asyncio.wait({stop, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (stop, *tasks):
                task.cancel()
            await asyncio.wait({stop, *tasks})
        for task in tasks:
            if not task.cancelled():
                task.result()

    async def _keep_checking(self) -> None:
        while True:
            await self.check()
            await self._timing.sleep(self._config.every)

    async def _keep_delivering(self, receiver: Receiver) -> None:
        while True:
            await self._deliver_to(receiver)
            await self._timing.sleep(_DELIVER_EVERY)

    async def _check(self) -> Check:
        await refresh(self._rest)
        overview = await read_overview(self._rest)
        days = await read_growth(self._rest)
        extremes = await read_pre_key_extremes(
            self._rest,
            low=self._config.limit("companies_with_few_pre_keys", _FEW),
            high=self._config.limit("companies_with_many_pre_keys", _MANY),
            limit=_NAMED,
        )
        values = measure(overview, days, self._config.plan, extremes)
        stored = await self._rest.rpc(
            "whatsapp_alert_states", {}, is_right=lambda found: isinstance(found, dict)
        )
        now = overview["time"] if self._clock is None else self._clock()
        self._resolve_alone(now)
        standings, told = [], []
        for rule in self._config.rules:
            known = stored.get(rule.name, {"version": 0, "state": {}})
            before = AlertState.of_json(known["state"])
            value = values.get(rule.measure)
            state, notice = step(rule, before, value, now)
            companies = _companies(rule, extremes)
            standing = Standing(rule, state, value, companies)
            if state != before and await self._step(standing, known["version"], notice, now):
                told += [(rule.name, notice)] if notice is not None else []
            standings.append(standing)
        return Check(now, standings, told, reached=True)

    async def _step(
        self, standing: Standing, version: int, notice: Notice | None, now: float
    ) -> bool:
        messages = [] if notice is None else self._messages(standing, notice)
        taken = await self._rest.rpc(
            "step_whatsapp_alert",
            {
                "p_rule": standing.rule.name,
                "p_version": version,
                "p_state": standing.state.as_json(),
                "p_messages": messages,
                "p_now": now,
            },
            is_right=lambda found: isinstance(found, bool),
        )
        return bool(taken)

    def _messages(self, standing: Standing, notice: Notice) -> list[list[Any]]:
        rule = standing.rule
        fields: dict[str, Any] = {
            "severity": rule.severity,
            "value": standing.value,
            "threshold": rule.threshold,
            "since": standing.state.fired_at,
        }
        if self._config.company_ids and standing.companies:
            fields["companies"] = list(standing.companies)
        message = self._message(rule.name, notice, rule.title, fields)
        return [[name, message] for name in self._receivers]

    def _message(
        self, rule: str, notice: str, title: str, fields: Mapping[str, Any]
    ) -> dict[str, Any]:
        message = {"rule": rule, "notice": notice, "title": title, "project": self._project}
        return {**message, **fields, "text": _text({**message, **fields})}

    def _check_alone(self, values: Measures) -> Check:
        """Look at the rules about the database's not answering, whose shared state is away."""
        now = self._timing_now()
        standings, told = [], []
        for rule in self._config.rules:
            if rule.measure not in values:
                continue
            state, notice = step(
                rule, self._local.get(rule.name, AlertState()), values[rule.measure], now
            )
            self._local[rule.name] = state
            standing = Standing(rule, state, values[rule.measure])
            standings.append(standing)
            if notice is not None:
                told.append((rule.name, notice))
                self._tell_alone(standing, notice)
        return Check(now, standings, told, reached=False)

    def _resolve_alone(self, now: float) -> None:
        for rule in self._config.rules:
            state = self._local.pop(rule.name, None)
            if state is not None and state.phase == "firing":
                over = replace(state, phase="resolved", since=now)
                self._tell_alone(Standing(rule, over, 0.0), "resolved")

    def _tell_alone(self, standing: Standing, notice: Notice) -> None:
        for name, message in self._messages(standing, notice):
            self._unsent[name].append(message)

    def _timing_now(self) -> float:
        import time

        return float(time.time() if self._clock is None else self._clock())

    async def _deliver_to(self, receiver: Receiver) -> int:
        failed = await self._deliver_unsent(receiver)
        try:
            taken = await self._rest.rpc(
                "take_whatsapp_alert_messages",
                {
                    "p_receivers": [receiver.name],
                    "p_now": self._timing_now(),
                    "p_seconds": _TAKEN_FOR,
                },
                is_right=lambda found: isinstance(found, list),
            )
            for each in taken:
                failed += not await self._deliver_one(receiver, each)
        except (StoreError, ConfigurationError) as error:
            log.info("alerts: messages stay in the database for now: %s", error)
        return failed

    async def _deliver_unsent(self, receiver: Receiver) -> int:
        waiting = self._unsent[receiver.name]
        while waiting:
            _, problem = await self._try(receiver, waiting[0])
            if problem:
                return len(waiting)
            waiting.pop(0)
        return 0

    async def _deliver_one(self, receiver: Receiver, taken: Mapping[str, Any]) -> bool:
        _, problem = await self._try(receiver, taken["message"], message_id=str(taken["id"]))
        pause = delay(
            taken["attempts"] - 1, base=_RETRY, cap=_LONGEST_RETRY, random=self._timing.random
        )
        params = {
            "p_id": taken["id"],
            "p_attempts": taken["attempts"],
            "p_delivered": not problem,
            "p_due": self._timing_now() + pause,
            "p_failure": problem or None,
        }
        await self._rest.rpc("settle_whatsapp_alert_message", params)
        return not problem

    async def _try(
        self, receiver: Receiver, message: Message, *, message_id: str | None = None
    ) -> tuple[str, str]:
        name = (
            message_id or f"{message['rule']}-{message['notice']}-{message.get('since') or 0:.0f}"
        )
        try:
            await receiver.send(message, message_id=name, now=self._timing_now())
        except Undelivered as error:
            problem = str(error)
        except SupabaseAuthStateError:
            raise
        except Exception as error:  # noqa: BLE001 - one receiver must not end the others
            problem = type(error).__name__
        else:
            return receiver.name, ""
        log.warning("alerts: %s did not take a message: %s", receiver.name, problem)
        return receiver.name, problem


def project_name(url: str) -> str:
    """Return how messages name a project: its host."""
    return urlsplit(url).hostname or ""


def plan_text(plan: Plan) -> str:
    """Return a plan in words."""
    return f"{plan.name} ({plan.database_bytes / 1e9:g} GB)"


def _companies(rule: Rule, extremes: PreKeyExtremes) -> Sequence[str]:
    if rule.measure == "companies_with_few_pre_keys":
        return extremes["low"]["companies"]
    if rule.measure == "companies_with_many_pre_keys":
        return extremes["high"]["companies"]
    return ()


def _text(message: Mapping[str, Any]) -> str:
    words = {"firing": "", "repeated": "Still: ", "resolved": "Over: ", "test": ""}
    where = f" ({message['project']})" if message["project"] else ""
    text = f"{words[message['notice']]}{message['title']}{where}"
    value = message.get("value")
    if value is not None and message["notice"] != "resolved":
        text += f": {value:.4g}, the threshold is {message['threshold']:.4g}"
    if message.get("companies"):
        text += f"; companies: {', '.join(message['companies'])}"
    return text
