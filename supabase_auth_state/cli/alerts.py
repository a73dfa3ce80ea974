"""``alerts``: look at the rules once, keep looking, or try the receivers."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .console import Console
from .exits import DIFFERENT, DONE, REFUSED
from .parsing import Commands, add_command, add_common_options
from .tables import Page, Table

if TYPE_CHECKING:
    from supabase_auth_state.operations.alerting import Alerts, Check
    from supabase_auth_state.rest.client import Rest


def add_parsers(commands: Commands) -> None:
    """Add the parsers of this command."""
    parser = add_command(
        commands,
        "alerts",
        run_check,
        summary="tell when a limit comes near or something goes wrong",
        description="""\
Look at rules with thresholds: size against plan, days to the limit, expired backlog, clean-up,
leases, damaged rows, pre-keys, errors. Rules and receivers are in a TOML file over sensible
defaults; without a file the log is the receiver. docs/operations.md has the rules.""",
    )
    ways = parser.add_subparsers(dest="way", metavar="WAY", required=True, help="what to do")
    for name, run, summary in (
        ("check", run_check, "look once; exit code 3 when a rule fires: for cron"),
        ("run", run_alerts, "keep looking, until SIGTERM"),
        ("test", run_test, "send one message to every receiver"),
    ):
        way = ways.add_parser(name, help=summary, description=summary)
        add_common_options(way, run)
        way.add_argument("--config", metavar="FILE", type=Path, help="the alerts' TOML file")


async def run_check(args: argparse.Namespace, console: Console) -> int:
    """Look at the rules once, and deliver."""
    from supabase_auth_state.rest.client import using_rest

    async with using_rest() as rest:
        alerts = _alerts(args, rest)
        check = await alerts.check()
        await alerts.deliver()
    console.result(_Checked(check), ok=not check.firing)
    return DIFFERENT if check.firing else DONE


async def run_alerts(args: argparse.Namespace, console: Console) -> int:
    """Keep looking at the rules."""
    from supabase_auth_state.rest.client import using_rest

    from .signals import stop_request

    async with using_rest() as rest:
        alerts = _alerts(args, rest)
        with stop_request() as asked:
            console.say("looking at the rules; Ctrl-C ends it")
            await alerts.run(asked)
    return DONE


async def run_test(args: argparse.Namespace, console: Console) -> int:
    """Send one message to every receiver."""
    from supabase_auth_state.rest.client import using_rest

    async with using_rest() as rest:
        found = await _alerts(args, rest).test()
    failed = any(found.values())
    console.result(_Tested(found), ok=not failed)
    return REFUSED if failed else DONE


def _alerts(args: argparse.Namespace, rest: Rest) -> Alerts:
    from supabase_auth_state.config import Settings
    from supabase_auth_state.operations.alert_config import load_alert_config
    from supabase_auth_state.operations.alerting import Alerts, project_name

    project = project_name(Settings.from_env().url)
    return Alerts(rest, load_alert_config(args.config), project=project)


class _Checked(Page):
    """What a look at the rules found, for printing."""

    def __init__(self, check: Check) -> None:
        self._check = check

    def as_json(self) -> dict[str, Any]:
        rules = {
            each.rule.name: {
                "phase": each.state.phase,
                "since": each.state.since,
                "value": each.value,
                "threshold": each.rule.threshold,
                "severity": each.rule.severity,
            }
            for each in self._check.standings
        }
        return {"time": self._check.time, "reached": self._check.reached, "rules": rules}

    def parts(self) -> Iterator[str | Table]:
        rows = [
            (
                each.rule.name,
                each.state.phase,
                "unknown" if each.value is None else f"{each.value:.4g}",
                f"{'above' if each.rule.is_upper else 'below'} {each.rule.threshold:g}",
            )
            for each in self._check.standings
        ]
        fires = len(self._check.firing)
        yield f"{fires} of {len(rows)} rules fire" if fires else f"{len(rows)} rules, none fires"
        yield Table(("rule", "state", "value", "broken"), rows)


class _Tested:
    """What became of test messages, for printing."""

    def __init__(self, found: Mapping[str, str]) -> None:
        self._found = found

    def as_json(self) -> dict[str, Any]:
        return {
            "receivers": {name: problem or "delivered" for name, problem in self._found.items()}
        }

    def __str__(self) -> str:
        return "\n".join(
            f"{name}: {problem or 'delivered'}" for name, problem in self._found.items()
        )
