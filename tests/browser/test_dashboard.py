"""The dashboard as people use it: real Chromium, real stack, a thousand companies."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import psycopg
import pytest
from playwright.sync_api import Page, expect

from devstack import LocalStack
from supabase_auth_state.cli.web.access import COOKIE

from .conftest import AXE
from .world import COMPANIES, DEVICE, SECRET, recount, serving

PAGES = ["/", "/companies", f"/company?id={DEVICE}&doctor=1", "/workers", "/alerts", "/capacity"]
ASK = f"/company/ask?id={DEVICE}&action=quarantine"
PHONE = {"width": 375, "height": 740}
TOKEN = "a-token-that-is-long-enough"


web = httpx.Client(timeout=30)
"""Keeps no cookies: no answer of a dashboard without a token sets one."""

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


COLOURS = """() => Object.fromEntries(
  ['body', '.card', 'small', 'nav a[aria-current]', '.line', '.area', '.grid', '.bar-fill']
  .map(each => {
    const style = getComputedStyle(document.querySelector(each));
    return [each, [style.color, style.backgroundColor, style.fill, style.stroke].join(' ')];
  }))"""


def test_a_page_that_is_open_turns_dark_and_light(look: Any) -> None:
    page: Page = look(color_scheme="light")
    page.goto("/")
    light = page.evaluate(COLOURS)
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate(COLOURS)
    assert not [each for each in light if light[each] == dark[each]]
    page.emulate_media(color_scheme="light")
    assert page.evaluate(COLOURS) == light


FOCUSED = """() => {
  const found = document.activeElement;
  const style = getComputedStyle(found);
  const shown = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2;
  return [[...document.querySelectorAll('*')].indexOf(found), shown, found === document.body];
}"""
FOCUSABLE = """() => {
  const all = [...document.querySelectorAll('*')];
  const some = 'a[href], button, input:not([type=hidden]), select, [tabindex="0"]';
  return all.filter(each => each.matches(some) && each.getClientRects().length)
    .map(each => all.indexOf(each));
}"""


def test_every_page_can_be_used_by_the_keyboard(look: Any) -> None:
    page: Page = look()
    for path in [*PAGES, ASK, "/companies?search=company-000"]:
        if path == "/companies":
            continue  # a hundred links; the search has the same page with few
        page.goto(path)
        page.evaluate("document.activeElement.blur()")
        wanted = page.evaluate(FOCUSABLE)
        assert len(wanted) >= 6
        met = set()
        # Between the last and the first the browser's own buttons have the focus.
        for _ in range(len(wanted) + 1):
            page.keyboard.press("Tab")
            place, is_shown, is_body = page.evaluate(FOCUSED)
            assert is_shown or is_body, (path, place)
            met |= set() if is_body else {place}
        assert sorted(met) == wanted, path
    page.goto("/")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()


def test_a_question_keeps_the_focus_and_gives_it_back(
    look: Any, project_db: psycopg.Connection[Any]
) -> None:
    page: Page = look(bypass_csp=True)
    before = rows(project_db, "company-0030")
    page.goto("/company?id=company-0030")
    link = page.get_by_role("link", name="Quarantine…")
    dialog = page.get_by_role("dialog", name="Put into quarantine: company-0030?")
    for close in ("Escape", "Enter"):
        link.focus()
        page.keyboard.press("Enter")
        expect(dialog).to_be_visible()
        stay = dialog.get_by_role("link", name="Leave it as it is")
        expect(stay).to_be_focused()
        for _ in range(4):
            page.keyboard.press("Tab")
            # Where the browser's own buttons have the focus, the page's body is the active one.
            assert page.evaluate("document.activeElement.matches('body, dialog, dialog *')")
        page.evaluate(AXE())
        found = page.evaluate("rules => axe.run({runOnly: rules})", LIGHT)
        assert [each["id"] for each in found["violations"]] == []
        stay.focus()
        page.keyboard.press(close)
        expect(dialog).to_have_count(0)
        expect(link).to_be_focused()
    assert rows(project_db, "company-0030") == before
    # A question that cannot be read is asked on a page of its own, as without the script.
    page.route("**/company/ask*", lambda route: route.abort(), times=1)
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("/company/ask"))
    expect(page.get_by_role("button", name="Put into quarantine")).to_be_visible()
    look.seen.problems = [each for each in look.seen.problems if "ERR_FAILED" not in each]


def secrets_of(db: psycopg.Connection[Any]) -> set[str]:
    """Return what a page must not hold."""
    stored = db.execute(
        "select creds::text from whatsapp_auth where company_id = %s union all "
        "select value::text from whatsapp_keys where company_id = %s",
        [DEVICE, DEVICE],
    ).fetchall()
    pieces = {piece for (text,) in stored for piece in re.findall(r"[A-Za-z0-9+/]{24,}", text)}
    assert len(pieces) > 100
    return {*pieces, SECRET}


def test_no_answer_holds_key_material(address: str, project_db: psycopg.Connection[Any]) -> None:
    secrets = secrets_of(project_db)
    for path in [
        *(*PAGES, ASK, "/company?id=company-0002&doctor=1", "/companies?sort=bytes", "/none"),
        *(
            f"/company/ask?id={DEVICE}&action={action}&version=1"
            for action in ("release", "restore")
        ),
    ]:
        text = web.get(f"{address}{path}").text
        assert not [piece for piece in secrets if piece in text], path


STRANGE = "<b>&\"' \u202e\U0001f468\u200d\U0001f469\u200d\U0001f467" + "x" * 200
"""A company_id as clients may choose it."""


@pytest.fixture
def strange(project_db: psycopg.Connection[Any]) -> Iterator[None]:
    """A company with such a name, owned by a process with one like it."""
    project_db.execute("insert into whatsapp_auth (company_id, creds) values (%s, '{}')", [STRANGE])
    project_db.execute("select acquire_whatsapp_lease(%s, %s, 3600)", [STRANGE, STRANGE])
    recount(project_db)
    yield
    project_db.execute("set whatsapp_auth.maintenance = 'on'")
    project_db.execute("delete from whatsapp_auth where company_id = %s", [STRANGE])
    project_db.execute("delete from whatsapp_leases where company_id = %s", [STRANGE])
    project_db.execute("delete from whatsapp_lease_history where company_id = %s", [STRANGE])
    recount(project_db)


def test_no_page_is_wider_than_a_phone(look: Any, strange: None) -> None:
    page: Page = look(viewport=PHONE, has_touch=True, is_mobile=True)
    named = urlencode({"id": STRANGE})
    paths = [*PAGES, ASK, f"/company?{named}", f"/company/ask?{named}&action=release"]
    for path in [*paths, "/companies?sort=bytes"]:
        page.goto(path)
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= PHONE["width"], path
        expect(page.locator("h1")).to_be_visible()
        tops = page.locator("header nav a").evaluate_all(
            "links => links.map(link => link.getBoundingClientRect().top)"
        )
        assert len(set(tops)) == 1, "the links to the pages stand in one row"
        small = page.evaluate(
            "Math.min(...[...document.querySelectorAll('main span, main td, main p')]"
            ".map(each => parseFloat(getComputedStyle(each).fontSize)))"
        )
        assert small >= 11, path
    page.goto(f"/company?{named}")
    page.get_by_role("link", name="Release the lease…").click()
    box = page.get_by_role("dialog").bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= PHONE["width"]
    assert "&lt;b&gt;" in page.locator("h1").first.inner_html()


def test_the_overview_shows_the_whole(look: Any, project_db: psycopg.Connection[Any]) -> None:
    project_db.execute("select refresh_whatsapp_statistics(500, 0)")
    page: Page = look()
    page.goto("/")
    figures = page.locator("#figures")
    expect(figures).to_contain_text("1\u202f000")
    expect(page.locator(".card", has_text="Owned now").last).to_contain_text("20")
    assert page.locator("#growth .dot").count() >= 40
    assert page.locator("#growth .heights span").all_inner_texts()[-1] == "0 B"
    assert page.locator("#growth .days span").count() == 4
    assert "session" in page.locator("#types").inner_text()
    expect(page.locator("#cleanup tbody tr")).to_have_count(6)
    expect(page.locator("#cleanup")).to_contain_text("not to the end")
    for card in ("Writes a minute", "Database", "Limit in", "Expired keys", "Alerts"):
        expect(page.locator("#figures .card", has_text=card).first).to_be_visible()


def test_workers_and_the_leases_of_a_company_are_shown(
    look: Any, project_db: psycopg.Connection[Any]
) -> None:
    project_db.execute("select refresh_whatsapp_statistics(500, 0)")
    page: Page = look()
    page.goto("/workers")
    expect(page.locator("#list tbody tr")).to_have_count(3)
    expect(page.locator("#leases tbody tr")).to_have_count(20)
    page.goto(f"/company?id={DEVICE}")
    expect(page.locator("#leases rect.bar-fill")).to_have_count(6)
    expect(page.locator("#leases rect.taken")).to_have_count(1)
    expect(page.locator("#leases")).to_contain_text("taken over")


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
    secrets = secrets_of(project_db)
    page.goto(f"/company?id={DEVICE}")
    page.clock.install()
    page.get_by_role("link", name="Run the doctor").click()
    expect(page.locator("#doctor")).to_contain_text("Doctor: healthy")
    # The doctor reads the whole company: not again with every refresh.
    with page.expect_response(lambda answer: "/company" in answer.url) as answered:
        page.clock.run_for(5100)
    assert "doctor" not in answered.value.url
    expect(page.locator("#doctor")).to_be_visible()

    page.get_by_role("link", name="Quarantine…").click()
    page.get_by_role("link", name="Leave it as it is").click()
    assert rows(project_db, DEVICE) == before
    page.get_by_role("link", name="Quarantine…").click()
    page.get_by_role("button", name="Put into quarantine").click()
    expect(page.get_by_role("status").filter(has_text="quarantine")).to_be_visible()
    assert rows(project_db, DEVICE) == []
    assert not [piece for piece in secrets if piece in page.content()]

    page.get_by_role("link", name="Restore").first.click()
    page.get_by_role("button", name="Restore").click()
    expect(page.get_by_role("status").filter(has_text="restored")).to_be_visible()
    assert rows(project_db, DEVICE) == before


def rows(db: psycopg.Connection[Any], company_id: str) -> list[Any]:
    return db.execute(
        "select key_type, key_id, value from whatsapp_keys where company_id = %s order by 1, 2",
        [company_id],
    ).fetchall()


def test_a_lease_is_released_by_its_button(look: Any, project_db: psycopg.Connection[Any]) -> None:
    page: Page = look()
    page.goto("/company?id=company-0007")
    expect(page.locator("#figures")).to_contain_text("Owned by worker-1")
    page.get_by_role("link", name="Release the lease…").click()
    expect(page.get_by_role("dialog")).to_contain_text("is alive")
    page.keyboard.press("Escape")
    assert lease(project_db, "company-0007")["live"]

    project_db.execute(
        "update whatsapp_leases set expires_at = now() - interval '90 s' "
        "where company_id = 'company-0007'"
    )
    page.goto("/companies?search=company-0007")
    expect(page.locator("#list tbody tr")).to_contain_text("owner gone")
    page.locator("td.name a").click()
    expect(page.locator("#figures")).to_contain_text("The lease of worker-1 ended 2 min ago")
    page.get_by_role("link", name="Release the lease…").click()
    expect(page.get_by_role("dialog")).to_contain_text("its process has died")
    page.get_by_role("button", name="End the lease").click()
    expect(page.get_by_role("status").filter(has_text="The lease is ended")).to_be_visible()
    expect(page.locator("#figures")).to_contain_text("Owned by no process")
    assert lease(project_db, "company-0007")["owner"] is None
    project_db.execute("select acquire_whatsapp_lease('company-0007', 'worker-1', 3600)")


def test_what_is_the_matter_with_a_company_is_told(
    look: Any, project_db: psycopg.Connection[Any]
) -> None:
    ill = {"company-0901": "set back", "company-0902": "logged out", "company-0903": "replaced"}
    project_db.execute(
        "insert into whatsapp_leases (company_id, token, restored_at) "
        "values ('company-0901', 1, now() - interval '2 h')"
    )
    project_db.execute(
        "insert into whatsapp_pauses (company_id, code, reason, until, noted_by) values "
        "('company-0902', 401, 'logged out', 'infinity', 'worker-1'), "
        "('company-0903', 440, 'replaced', now() + interval '2 h', 'worker-1'), "
        "('company-0904', 402, 'banned', now() - interval '2 h', 'worker-1')"
    )
    page: Page = look()
    page.goto("/companies?search=company-090")
    for company, words in {**ill, "company-0904": "fine"}.items():
        expect(page.locator("tbody tr", has_text=company)).to_contain_text(words)
    for company, words in (
        ("company-0901", "an owner found 2 h ago that the database had forgotten writes"),
        ("company-0902", "Logged out (401): pools leave it alone until supabase-auth-state"),
        ("company-0903", "Replaced (440): pools leave it alone for 2 h"),
    ):
        page.goto(f"/company?id={company}")
        expect(page.locator("#figures .alert")).to_contain_text(words)
    project_db.execute("delete from whatsapp_pauses")
    project_db.execute("delete from whatsapp_leases where company_id = 'company-0901'")


def test_a_company_that_has_moved_is_not_opened_by_a_button(
    look: Any, address: str, project_db: psycopg.Connection[Any]
) -> None:
    moved, mark = "company-0950", "moved to https://another.supabase.co"
    project_db.execute("select set_config('whatsapp_auth.closing', %s, false)", [moved])
    project_db.execute(
        "insert into whatsapp_leases (company_id, token, owner) values (%s, 1, %s)", [moved, mark]
    )
    page: Page = look()
    page.goto(f"/companies?search={moved}")
    expect(page.locator("tbody tr")).to_contain_text("moved")
    page.goto(f"/company?id={moved}")
    expect(page.locator("#figures")).to_contain_text(f"Closed here: {mark}")
    expect(page.get_by_role("link", name="Release the lease…")).to_have_count(0)
    form = {"id": moved, "action": "release", "token": "1"}
    for found in (
        web.get(f"{address}/company/ask?id={moved}&action=release"),
        web.post(f"{address}/company/do", data=form, headers={"origin": address}),
    ):
        assert (found.status_code, "lives in the project" in found.text) == (409, True)
    assert lease(project_db, moved)["owner"] == mark
    project_db.execute("delete from whatsapp_leases where company_id = %s", [moved])


def test_a_lease_acquired_since_it_was_shown_is_not_ended(
    look: Any, project_db: psycopg.Connection[Any]
) -> None:
    page: Page = look()
    page.goto("/company/ask?id=company-0008&action=release")
    shown = lease(project_db, "company-0008")
    project_db.execute("select release_whatsapp_lease('company-0008', %s)", [shown["token"]])
    project_db.execute("select acquire_whatsapp_lease('company-0008', 'another', 3600)")
    page.get_by_role("button", name="End the lease").click()
    expect(page.get_by_role("status").filter(has_text="nothing was changed")).to_be_visible()
    now = lease(project_db, "company-0008")
    assert now["owner"] == "another"
    project_db.execute("select release_whatsapp_lease('company-0008', %s)", [now["token"]])
    project_db.execute("select acquire_whatsapp_lease('company-0008', 'worker-2', 3600)")
    # What was pressed says that it is at work, and cannot be pressed again.
    page.goto("/company/ask?id=company-0009&action=release")
    assert page.evaluate(PRESSED) == ["Working…", True]
    page.goto("/company/ask?id=company-0500&action=release")
    expect(page.locator("#ask")).to_contain_text("there is nothing to end")
    expect(page.get_by_role("button", name="End the lease")).to_have_count(0)


PRESSED = """() => {
  const button = document.querySelector('#ask button');
  button.form.addEventListener('submit', event => event.preventDefault());
  button.click();
  return [button.textContent, button.disabled];
}"""


def lease(db: psycopg.Connection[Any], company_id: str) -> Any:
    return db.execute("select whatsapp_lease_status(%s)", [company_id]).fetchone()[0]  # type: ignore[index]


def test_an_alert_appears_and_goes_while_the_page_is_open(
    look: Any, project_db: psycopg.Connection[Any]
) -> None:
    page: Page = look()
    page.clock.install()
    page.goto("/")
    expect(page.get_by_role("alert")).to_have_count(0)
    main = page.locator("main").element_handle()
    figure = page.locator("#figures .card b").first.element_handle()
    page.evaluate("getSelection().selectAllChildren(document.querySelector('#figures .card b'))")
    step(project_db, "firing")
    page.clock.run_for(5100)
    expect(page.get_by_role("alert")).to_have_count(1)
    # What is the same was not touched: nothing flickers, and what is selected stays so.
    assert figure.evaluate("figure => figure.isConnected")
    assert page.evaluate("getSelection().toString()") == "1\u202f000"
    step(project_db, "resolved")
    page.clock.run_for(5100)
    expect(page.get_by_role("alert")).to_have_count(0)
    # The page was not loaded again for it.
    assert page.locator("main").evaluate("(now, then) => now === then", main)
    page.goto("/alerts")
    rule = page.locator("tbody tr", has_text="database_size")
    expect(rule).to_contain_text("over")
    step(project_db, "firing")
    page.clock.run_for(5100)
    expect(rule).to_contain_text("fires")
    project_db.execute("delete from whatsapp_alerts")
    page.clock.run_for(5100)
    expect(page.locator("#list")).to_contain_text("No rule has changed its state yet")


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


def test_a_page_stays_open_while_the_database_is_away_and_back(
    look: Any, project: LocalStack
) -> None:
    page, later = look(), look()
    page.clock.install()
    later.clock.install()
    page.goto("/")
    project.gateway.stop()
    try:
        page.clock.run_for(5100)
        expect(page.locator("#late")).to_contain_text("The database does not answer")
        expect(page.locator("#figures")).to_contain_text("1\u202f000")
        assert later.goto("/companies").status == 503
        expect(later.get_by_role("alert")).to_be_visible()
    finally:
        project.gateway.start()
    page.clock.run_for(5100)
    expect(page.locator("#late")).to_be_hidden()
    # A page that could not be shown comes by itself.
    later.clock.run_for(5100)
    expect(later.locator("td.name")).to_have_count(100)
    # Chromium itself notes answers of 503.
    look.seen.problems = [each for each in look.seen.problems if "503" not in each]


def test_a_dashboard_that_does_not_answer_is_told_of(look: Any) -> None:
    page: Page = look()
    page.clock.install()
    page.goto("/")
    page.route("**/*", lambda route: route.abort())
    page.clock.run_for(5100)
    expect(page.locator("#late")).to_contain_text("The dashboard does not answer")
    page.unroute("**/*")
    page.clock.run_for(5100)
    expect(page.locator("#late")).to_be_hidden()
    look.seen.problems = [each for each in look.seen.problems if "ERR_FAILED" not in each]


EMPTY = {
    "/": "No run is recorded",
    "/companies": "No company is counted yet",
    "/workers": "No process owns a company now",
    "/alerts": "No rule has changed its state yet",
    "/capacity": "is known when the first one is counted",
}


def test_an_empty_and_an_older_project_say_what_to_do(
    local_stack: LocalStack, tmp_path: Path
) -> None:
    for migrate in (True, False):
        with local_stack.fresh(migrate=migrate) as stack, serving(stack, tmp_path) as address:
            for path, words in EMPTY.items():
                found = web.get(f"{address}{path}")
                assert found.status_code == (200 if migrate else 503), path
                assert (words if migrate else "The schema is older") in found.text, path


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/company?id=none-such", "none-such"),
        ("/company?id=%00", "control character"),
        ("/company", "1 to 255 characters"),
        ("/company/do", "no such request"),
        ("/company/ask?id=device&action=erase", "no such action"),
        ("/company/ask?id=device&action=restore&version=x", "not a number"),
        ("/companies?after=x", "not a page"),
        ("/companies?after=[1,2,3]", "not a page"),
        ('/companies?after=["a\\u0000","b"]', "not a page"),
        ('/companies?sort=bytes&after=["x","y"]', "not a page"),
        ('/companies?sort=bytes&after=[99999999999999999999,"y"]', "not a page"),
        ('/companies?sort=last_write&after=[1e300,"y"]', "not a page"),
        ("/companies?sort=creds", "cannot be sorted"),
        ("/capacity?plan=none", "no plan"),
        ("/static/../app.py", "no such page"),
        ("/static/%2e%2e/app.py", "no such page"),
        ("/none", "no such page"),
    ],
)
def test_errors_are_pages(address: str, path: str, words: str) -> None:
    found = web.get(f"{address}{path}")
    assert 400 <= found.status_code < 500
    assert words in found.text
    assert "default-src 'none'" in found.headers["content-security-policy"]
    assert '<nav aria-label="Pages">' in found.text


@pytest.mark.parametrize(
    "path",
    [
        "/capacity?plan=custom",
        "/capacity?plan=custom&disk=0&companies=-5&removed=1000",
        "/capacity?plan=pro&disk=1e300&companies=1e300&removed=nan&encrypted",
        "/companies?search=%00%ED%A0%80%25_",
        '/companies?sort=bytes&after=[-1,"y"]',
    ],
)
def test_whatever_an_address_asks_for_is_moved_to_what_there_is(address: str, path: str) -> None:
    assert web.get(f"{address}{path}").status_code == 200


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({}, "1 to 255 characters"),
        ({"id": DEVICE}, "no such action"),
        ({"id": DEVICE, "action": "release"}, "not a number"),
        ({"id": DEVICE, "action": "release", "token": "9" * 30}, "not a number"),
        ({"id": DEVICE, "action": "restore", "version": "99999"}, "no version 99999"),
        ({"id": "none-such", "action": "quarantine"}, "none-such"),
        ({"id": "company-0003", "action": "quarantine"}, "is owned by worker-0"),
        ({"id": "x" * 5000}, "too long"),
    ],
)
def test_a_form_that_asks_for_nonsense_changes_nothing(
    address: str, project_db: psycopg.Connection[Any], form: dict[str, str], words: str
) -> None:
    count = "select count(*), sum(hashtext(company_id || key_id)) from whatsapp_keys"
    before = project_db.execute(count).fetchone()
    found = web.post(f"{address}/company/do", data=form, headers={"origin": address})
    assert 400 <= found.status_code < 500
    assert words in found.text
    # It is not sent again by itself.
    assert "data-again" not in found.text
    assert project_db.execute(count).fetchone() == before


def test_head_and_other_methods(address: str) -> None:
    for path in ("/", "/companies", "/static/dashboard.css"):
        found = web.head(f"{address}{path}")
        assert (found.status_code, found.content) == (200, b"")
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
        found = web.request(method, address, headers={"origin": address})
        assert found.status_code == 405
        assert "GET" in found.headers["allow"]
        assert web.request(method, address).status_code == 403


def test_another_page_cannot_use_the_dashboard(address: str) -> None:
    evil = "http://evil.example:80"
    form = {"id": DEVICE, "action": "quarantine"}
    # DNS rebinding: the name of another page leads here.
    for host in ("evil.example", "127.0.0.1.evil.example:8464", "localhost.evil.example"):
        for path in ("/", "/companies", "/login", "/static/dashboard.js", "/none"):
            found = web.get(f"{address}{path}", headers={"host": host})
            assert (found.status_code, "supabase" in found.text) == (421, False)
        headers = {"host": host, "origin": f"http://{host}"}
        assert web.post(f"{address}/company/do", data=form, headers=headers).status_code == 421
    for origin in ({"origin": evil}, {}, {"origin": "null"}, {"referer": f"{address}/"}):
        for path in ("/company/do", "/login"):
            found = web.post(f"{address}{path}", data=form, headers=origin)
            assert found.status_code == 403
    # A link may lead here. What is embedded or fetched would have the database work for others.
    for destination, status in (("document", 200), ("image", 403), ("iframe", 403), ("empty", 403)):
        headers = {"sec-fetch-site": "cross-site", "sec-fetch-dest": destination}
        assert web.get(address, headers=headers).status_code == status
    found = web.get(address)
    assert "default-src 'none'" in found.headers["content-security-policy"]
    assert "access-control-allow-origin" not in found.headers


def test_other_machines_need_the_token(project: LocalStack, look: Any, tmp_path: Path) -> None:
    with serving(project, tmp_path, "--host", "0.0.0.0", token=TOKEN) as served:  # noqa: S104
        address = served.replace("0.0.0.0", "127.0.0.1")  # noqa: S104
        with httpx.Client(base_url=address, headers={"origin": address}, timeout=30) as client:
            for path in (*PAGES, ASK):
                assert client.get(path).headers["location"] == "/login", path
            assert client.post("/company/do", data={"id": DEVICE}).headers["location"] == "/login"
            assert client.post("/login", data={"token": f"{TOKEN}x"}).status_code == 403
            assert client.get("/static/dashboard.css").status_code == 200
            admitted = client.post("/login", data={"token": TOKEN})
            cookie = admitted.headers["set-cookie"]
            assert "HttpOnly" in cookie
            assert "samesite=strict" in cookie.lower()
            assert TOKEN not in cookie
            assert client.get("/").status_code == 200
        look.seen.address = address
        page: Page = look()
        page.clock.install()
        page.goto(f"{address}/companies")
        page.get_by_label("Token").fill(TOKEN)
        page.keyboard.press("Enter")
        expect(page.locator("#figures")).to_contain_text("1\u202f000")
        page.wait_for_load_state()
        # The cookie is that of another run, as when the dashboard was started again.
        page.context.add_cookies([{"name": COOKIE, "value": "0" * 64, "url": address}])
        page.clock.run_for(5100)
        expect(page.locator("#late")).to_contain_text("This session is over")
        expect(page.locator("#figures")).to_contain_text("1\u202f000")
        page.get_by_role("link", name="Sign in").click()
        expect(page.get_by_label("Token")).to_be_focused()
        # What the page still loads must not meet a server that has ended.
        page.wait_for_load_state()
        page.close()
