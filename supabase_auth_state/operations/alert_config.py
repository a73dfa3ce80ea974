"""The alerts' file: rules, receivers, plan. It names the variables that hold secrets."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from supabase_auth_state.config.environment import environment
from supabase_auth_state.errors import ConfigurationError

from .alert_states import Rule
from .capacity import Plan, plan_of
from .cleanup import parse_interval
from .measures import MEASURES

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_DEFAULTS = Path(__file__).with_name("alerts.toml")
_RULE = {
    "title", "measure", "above", "below", "clear", "for", "clear_for", "severity", "repeat",
    "enabled", "few", "many",
}  # fmt: skip
_ALERTS = {"every", "repeat", "plan", "disk_gb", "company_ids"}
_RECEIVERS: Mapping[str, set[str]] = {
    "log": set(),
    "slack": {"url_env"},
    "webhook": {"url_env", "secret_env"},
    "email": {"host", "port", "tls", "user_env", "password_env", "sender", "to"},
}
_NEEDED: Mapping[str, set[str]] = {
    "log": set(),
    "slack": {"url_env"},
    "webhook": {"url_env", "secret_env"},
    "email": {"host", "sender", "to"},
}


@dataclass(frozen=True)
class ReceiverSettings:
    """Where messages go.

    Attributes:
        name: its name in the file.
        type: ``log``, ``slack``, ``webhook`` or ``email``.
        options: what the file says of it.
        secrets: the values of the variables that the file names, by option without ``_env``.
    """

    name: str
    type: str
    options: Mapping[str, Any] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class AlertConfig:
    """What the alerts' file says, over the defaults.

    Attributes:
        every: seconds between two looks at the rules.
        plan: the plan to measure against.
        company_ids: whether messages may name companies.
        rules: the rules.
        receivers: where messages go.
    """

    every: float
    plan: Plan
    company_ids: bool
    rules: tuple[Rule, ...]
    receivers: tuple[ReceiverSettings, ...]

    def limit(self, measure: str, otherwise: int) -> int:
        """Return the number of pre-keys that the rule about this measure takes for few or many."""
        return next((rule.limit for rule in self.rules if rule.measure == measure), otherwise)


def load_alert_config(
    path: Path | None = None, *, env: Mapping[str, str] | None = None
) -> AlertConfig:
    """Return the defaults, with what a file says over them.

    Args:
        path: the file; the defaults alone when absent.
        env: where the secrets are; the environment and ``.env`` when absent.

    Raises:
        ConfigurationError: the file cannot be read or says what is not understood, or a variable
            that it names is not set.
    """
    found = _read(_DEFAULTS)
    if path is not None:
        theirs = _read(path)
        unknown = theirs.keys() - {"alerts", "rules", "receivers"}
        if unknown:
            raise ConfigurationError(f"{path}: there is no section {min(unknown)!r}")
        found["alerts"] = {**found["alerts"], **theirs.get("alerts", {})}
        for name, rule in theirs.get("rules", {}).items():
            found["rules"][name] = _over(found["rules"].get(name, {}), rule)
        found["receivers"] = theirs.get("receivers", found["receivers"])
    general = found["alerts"]
    _refuse_unknown("[alerts]", general, _ALERTS)
    repeat = parse_interval(general["repeat"])
    values = environment() if env is None else env
    return AlertConfig(
        every=parse_interval(general["every"]),
        plan=plan_of(general["plan"], disk_gb=general.get("disk_gb")),
        company_ids=bool(general["company_ids"]),
        rules=tuple(
            _rule(name, rule, repeat)
            for name, rule in found["rules"].items()
            if rule.get("enabled", True)
        ),
        receivers=tuple(
            _receiver(name, receiver, values) for name, receiver in found["receivers"].items()
        ),
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        problem = error.strerror or "cannot be read"
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        problem = f"is no TOML: {error}"
    raise ConfigurationError(f"{path}: {problem}")


def _over(default: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    found = {**default, **theirs}
    if {"above", "below"} & theirs.keys():
        # A threshold of their own: the default's other side and its `clear` do not belong to it.
        for name in {"above", "below", "clear"} - theirs.keys():
            found.pop(name, None)
    return found


def _refuse_unknown(where: str, found: Mapping[str, Any], known: set[str]) -> None:
    unknown = found.keys() - known
    if unknown:
        raise ConfigurationError(
            f"{where}: {min(unknown)!r} is not known; there are {', '.join(sorted(known))}"
        )


def _rule(name: str, found: Mapping[str, Any], repeat: float) -> Rule:
    where = f"[rules.{name}]"
    _refuse_unknown(where, found, _RULE)
    if found.get("measure") not in MEASURES:
        raise ConfigurationError(
            f"{where}: measure is not {found.get('measure')!r} but one of "
            f"{', '.join(sorted(MEASURES))}"
        )
    sides = [side for side in ("above", "below") if side in found]
    if len(sides) != 1:
        raise ConfigurationError(f"{where}: give one of above and below")
    threshold = _number(where, found[sides[0]])
    clear = _number(where, found.get("clear", threshold))
    is_upper = sides == ["above"]
    if clear > threshold if is_upper else clear < threshold:
        raise ConfigurationError(f"{where}: clear is on the wrong side of {sides[0]}")
    if found.get("severity", "warning") not in {"warning", "critical"}:
        raise ConfigurationError(f"{where}: severity is warning or critical")
    return Rule(
        name=name,
        title=str(found.get("title", name)),
        measure=found["measure"],
        threshold=threshold,
        is_upper=is_upper,
        clear=clear,
        hold=_duration(found.get("for", "0s")),
        clear_hold=_duration(found.get("clear_for", "0s")),
        repeat=parse_interval(found["repeat"]) if "repeat" in found else repeat,
        severity=found.get("severity", "warning"),
        limit=int(_number(where, found.get("few", found.get("many", 0)))),
    )


def _number(where: str, found: object) -> float:
    if isinstance(found, bool) or not isinstance(found, (int, float)):
        raise ConfigurationError(f"{where}: {found!r} is not a number")
    return float(found)


def _duration(found: object) -> float:
    return 0.0 if found in {"0", "0s", 0} else parse_interval(str(found))


def _receiver(name: str, found: Mapping[str, Any], env: Mapping[str, str]) -> ReceiverSettings:
    where = f"[receivers.{name}]"
    kind = str(found.get("type"))
    if kind not in _RECEIVERS:
        raise ConfigurationError(f"{where}: type is log, slack, webhook or email, not {kind!r}")
    options = {key: value for key, value in found.items() if key != "type"}
    _refuse_unknown(where, options, _RECEIVERS[kind])
    missing = _NEEDED[kind] - options.keys()
    if missing:
        raise ConfigurationError(f"{where}: {min(missing)} is missing")
    variables = {key: str(value) for key, value in options.items() if key.endswith("_env")}
    unset = sorted(name for name in variables.values() if not env.get(name, "").strip())
    if unset:
        raise ConfigurationError(f"{where}: the variable {unset[0]} is not set")
    return ReceiverSettings(
        name=name,
        type=kind,
        options={key: value for key, value in options.items() if key not in variables},
        secrets={key.removesuffix("_env"): env[name].strip() for key, name in variables.items()},
    )
