"""The dashboard as people use it: real Chromium, real stack, a thousand companies."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from playwright.sync_api import Browser, Page, expect

from devstack import LocalStack

from .conftest import AXE
from .world import COMPANIES, DEVICE, SECRET, serving

PAGES = ["/", "/companies", f"/company?id={DEVICE}&doctor=1", "/workers", "/alerts", "/capacity"]
ASK = f"/company/ask?id={DEVICE}&action=quarantine"
PHONE = {"width": 375, "height": 740}
TOKEN = "a-token-that-is-long-enough"


LIGHT = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
"""Rules of axe, by their tags."""

DARK = ["color-contrast"]
"""What the colours may change of it."""


@pytest.mark.parametrize(("scheme", "rules"), [("light", LIGHT), ("dark", DARK)])
def test_every_page_can_be_read_by_everybody(look: Any, scheme: str, rules: list[str]) -> None:
    page: Page = look(color_scheme=scheme, bypass_csp=True)
    for path in [*PAGES, ASK]:
        page.goto(path)
        page.evaluate(AXE())
        found = page.evaluate("rules => axe.run({runOnly: rules})", rules)
        wrong = [
            (each["id"], [node["html"] for node in each["nodes"]]) for each in found["violations"]
        ]
        assert wrong == [], path
        assert found["passes"]
    back = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (back == "rgb(15, 20, 25)") is (scheme == "dark")


def test_no_answer_holds_key_material(address: str, project_db: psycopg.Connection[Any]) -> None:
    stored = project_db.execute(
        "select creds::text from whatsapp_auth where company_id = %s union all "
        "select value::text from whatsapp_keys where company_id = %s",
        [DEVICE, DEVICE],
    ).fetchall()
    pieces = {piece for (text,) in stored for piece in re.findall(r"[A-Za-z0-9+/]{24,}", text)}
    assert len(pieces) > 100
    for path in [*PAGES, ASK, "/company?id=company-0002&doctor=1", "/companies?sort=bytes"]:
        text = httpx.get(f"{address}{path}", timeout=30).text
        assert SECRET not in text
        assert not [piece for piece in pieces if piece in text], path


def test_no_page_is_wider_than_a_phone(look: Any) -> None:
    page: Page = look(viewport=PHONE, has_touch=True, is_mobile=True)
    for path in [*PAGES, ASK]:
        page.goto(path)
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= PHONE["width"], path
        expect(page.locator("h1")).to_be_visible()


def test_the_overview_shows_the_whole(look: Any) -> None:
    page: Page = look()
    page.goto("/")
    figures = page.locator("#figures")
    expect(figures).to_contain_text("1\u202f000")
    expect(page.locator(".card", has_text="Owned now").last).to_contain_text("20")
    assert page.locator("#growth circle").count() >= 40
    assert "session" in page.locator("#types").inner_text()


def test_companies_are_paged_sorted_and_searched(look: Any) -> None:
    page: Page = look()
    page.goto("/companies")
    seen: list[str] = []
    while True:
        seen += page.locator("td.name").all_inner_texts()
        following = page.get_by_role("link", name="Next page")
        if not following.count():
            break
        with page.expect_navigation():  # a page that is still being parsed lacks rows
            following.click()
    assert len(seen) == len(set(seen)) == COMPANIES
    assert seen == sorted(seen)

    page.get_by_role("link", name="First page").click()
    page.get_by_role("link", name=re.compile("^Keys")).click()
    expect(page.locator("td.name").first).to_have_text(DEVICE)
    page.get_by_role("link", name=re.compile("^Keys")).click()
    expect(page.locator("th[aria-sort=ascending]")).to_contain_text("Keys")

    page.wait_for_load_state()
    page.keyboard.press("/")
    page.keyboard.type("company-012")
    page.keyboard.press("Enter")
    expect(page.locator("td.name")).to_have_count(10)
    page.get_by_role("searchbox").fill("none-such")
    page.keyboard.press("Enter")
    expect(page.locator("#list")).to_contain_text("No company begins with")


def test_a_company_is_examined_quarantined_and_restored(
    look: Any, project_db: psycopg.Connection[Any]
) -> None:
    page: Page = look()
    before = rows(project_db, DEVICE)
    page.goto(f"/company?id={DEVICE}")
    page.get_by_role("link", name="Run the doctor").click()
    expect(page.locator("#doctor")).to_contain_text("Doctor")

    page.get_by_role("link", name="Quarantine…").click()
    page.get_by_role("link", name="Leave it as it is").click()
    assert rows(project_db, DEVICE) == before
    page.get_by_role("link", name="Quarantine…").click()
    page.get_by_role("button", name="Put into quarantine").click()
    expect(page.get_by_role("status").filter(has_text="quarantine")).to_be_visible()
    assert rows(project_db, DEVICE) == []

    page.get_by_role("link", name="Restore").first.click()
    page.get_by_role("button", name="Restore").click()
    expect(page.get_by_role("status").filter(has_text="restored")).to_be_visible()
    assert rows(project_db, DEVICE) == before


def rows(db: psycopg.Connection[Any], company_id: str) -> list[Any]:
    return db.execute(
        "select key_type, key_id, value from whatsapp_keys where company_id = %s order by 1, 2",
        [company_id],
    ).fetchall()


def test_the_lease_of_a_dead_owner_is_released(
    look: Any, project_db: psycopg.Connection[Any]
) -> None:
    page: Page = look()
    page.goto("/company?id=company-0007")
    expect(page.locator("#figures")).to_contain_text("Owned by worker-1")
    page.get_by_role("link", name="Release the lease…").click()
    expect(page.locator("main")).to_contain_text("is alive")
    page.get_by_role("button", name="End the lease").click()
    expect(page.locator("#figures")).to_contain_text("Owned by no process")
    (lease,) = project_db.execute("select whatsapp_lease_status('company-0007')").fetchone()  # type: ignore[misc]
    assert lease["owner"] is None
    project_db.execute("select acquire_whatsapp_lease('company-0007', 'worker-1', 3600)")


def test_an_alert_appears_and_goes_while_the_page_is_open(
    look: Any, project_db: psycopg.Connection[Any]
) -> None:
    page: Page = look()
    page.clock.install()
    page.goto("/")
    expect(page.get_by_role("alert")).to_have_count(0)
    main = page.locator("main").element_handle()
    step(project_db, "firing")
    page.clock.run_for(5100)
    expect(page.get_by_role("alert")).to_have_count(1)
    step(project_db, "resolved")
    page.clock.run_for(5100)
    expect(page.get_by_role("alert")).to_have_count(0)
    # The page was not loaded again for it.
    assert page.locator("main").evaluate("(now, then) => now === then", main)


def step(db: psycopg.Connection[Any], phase: str) -> None:
    state = {"phase": phase, "since": 1.0, "fired_at": 1.0, "told_at": 1.0, "value": 9.0}
    db.execute(
        "insert into whatsapp_alerts (rule, version, state) values ('database_size', 1, %s) "
        "on conflict (rule) do update set state = excluded.state",
        [json.dumps(state)],
    )


def test_what_has_the_focus_is_not_replaced(look: Any) -> None:
    page: Page = look()
    page.clock.install()
    page.goto("/companies")
    link = page.locator("td.name a").first
    link.focus()
    page.clock.run_for(5100)
    expect(page.locator("main[data-read='1']")).to_be_attached()
    assert link.evaluate("link => link === document.activeElement")


def test_the_slider_answers_what_if(look: Any) -> None:
    page: Page = look()
    page.goto("/capacity")
    before = page.locator("#then").inner_text()
    page.get_by_label("Companies:").focus()
    page.keyboard.press("End")
    expect(page.locator("#then")).to_contain_text("10\u202f000")
    assert page.locator("#then").inner_text() != before
    page.get_by_label("Values encrypted").check()
    expect(page).to_have_url(re.compile("encrypted=1"))
    expect(page.locator("#then")).not_to_contain_text(before)


def test_a_database_that_does_not_answer_is_told_of(
    look: Any, project: LocalStack, browser: Browser
) -> None:
    page: Page = look()
    page.clock.install()
    page.goto("/")
    page.route("**/*", lambda route: route.abort())
    page.clock.run_for(5100)
    expect(page.locator("#late")).to_be_visible()
    expect(page.locator("#figures")).to_contain_text("1\u202f000")
    page.unroute("**/*")
    page.clock.run_for(5100)
    expect(page.locator("#late")).to_be_hidden()
    # Chromium itself notes the requests that were cut off.
    look.seen.problems = [each for each in look.seen.problems if "ERR_FAILED" not in each]


def test_an_empty_and_an_older_project_say_what_to_do(
    browser: Browser, local_stack: LocalStack, tmp_path: Path
) -> None:
    for migrate, words in ((True, "No company is"), (False, "schema is older")):
        with local_stack.fresh(migrate=migrate) as stack, serving(stack, tmp_path) as address:
            assert words in httpx.get(f"{address}/companies").text


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/company?id=none-such", "none-such"),
        ("/companies?after=x", "not a page"),
        ("/none", "no such page"),
    ],
)
def test_errors_are_pages(address: str, path: str, words: str) -> None:
    found = httpx.get(f"{address}{path}")
    assert 400 <= found.status_code < 500
    assert words in found.text


def test_another_page_cannot_use_the_dashboard(address: str) -> None:
    evil = "http://evil.example:80"
    form = {"id": DEVICE, "action": "quarantine"}
    assert httpx.get(address, headers={"host": "evil.example"}).status_code == 421
    for origin in ({"origin": evil}, {}, {"origin": "null"}):
        found = httpx.post(f"{address}/company/do", data=form, headers=origin)
        assert found.status_code == 403
    found = httpx.get(address)
    assert "default-src 'none'" in found.headers["content-security-policy"]
    assert "access-control-allow-origin" not in found.headers


def test_other_machines_need_the_token(project: LocalStack, tmp_path: Path) -> None:
    with serving(project, tmp_path, "--host", "0.0.0.0", token=TOKEN) as served:  # noqa: S104
        address = served.replace("0.0.0.0", "127.0.0.1")  # noqa: S104
        with httpx.Client(base_url=address, headers={"origin": address}) as client:
            for path in (*PAGES, ASK):
                assert client.get(path).headers["location"] == "/login", path
            assert client.post("/company/do", data={"id": DEVICE}).headers["location"] == "/login"
            assert client.post("/login", data={"token": f"{TOKEN}x"}).status_code == 403
            admitted = client.post("/login", data={"token": TOKEN})
            cookie = admitted.headers["set-cookie"]
            assert "HttpOnly" in cookie
            assert "samesite=strict" in cookie.lower()
            assert TOKEN not in cookie
            assert client.get("/").status_code == 200
