"""``doctor`` without a company, on real projects."""

from __future__ import annotations

from collections.abc import Callable

from devstack import LocalStack, Stack
from supabase_auth_state import Rest, Settings, open_rest
from supabase_auth_state.cli.installation import InstallationReport, examine_installation


def failed(report: InstallationReport) -> dict[str, str]:
    return {check.name: check.words for check in report.checks if check.ok is False}


async def test_a_project_as_it_should_be(stack: Stack, settings: Settings, rest: Rest) -> None:
    await rest.rpc("refresh_whatsapp_statistics", {"p_companies": 1, "p_every": 0})
    report = await examine_installation(settings, rest, anon_key=stack.anon_key)
    # A busy machine may be slow; other tests may leave expired keys.
    assert failed(report).keys() <= {"round trip", "clean-up"}
    assert {check.name for check in report.checks} == {
        "url", "key", "round trip", "migrations", "grants", "outside", "max_rows", "clock",
        "clean-up", "statistics",
    }  # fmt: skip
    assert settings.key not in str(report)
    assert stack.anon_key not in str(report)
    assert report.as_json()["checks"]


async def test_a_project_without_migrations(fresh_stack: Callable[..., LocalStack]) -> None:
    stack = fresh_stack()
    settings = Settings(url=stack.url, key=stack.service_role_key, give_up_after=20)
    rest = open_rest(settings)
    try:
        report = await examine_installation(settings, rest)
    finally:
        await rest.close()
    assert "migration" in failed(report)["connection"]


async def test_a_table_that_is_open_to_outsiders(
    fresh_stack: Callable[..., LocalStack],
) -> None:
    import psycopg

    stack = fresh_stack(migrate=True)
    with psycopg.connect(stack.db_url, autocommit=True) as db:
        db.execute("grant select on whatsapp_auth to anon")
        db.execute("revoke select on whatsapp_keys from service_role")
    settings = Settings(url=stack.url, key=stack.service_role_key, give_up_after=20)
    rest = open_rest(settings)
    try:
        report = await examine_installation(settings, rest, anon_key=stack.anon_key)
    finally:
        await rest.close()
    assert "whatsapp_auth" in failed(report)["outside"]
    assert "whatsapp_keys" in failed(report)["grants"]
