"""The owner's cache: bounded, the caller's own values, and never older than a write."""

from __future__ import annotations

import json
from typing import Any

import pytest

from supabase_auth_state.store.owner_cache import ABSENT, OwnerCache, Stored

DAY = 86400.0
SESSION = ("session", "1.0")
OTHER = ("session", "2.0")
MAPPING = ("lid-mapping", "1")


class Clock:
    """Stands still until it is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(clock: Clock) -> OwnerCache:
    return OwnerCache(lambda ref, text: json.loads(text), 100_000, clock)


def remember(cache: OwnerCache, ref: Any, value: Any) -> None:
    cache.end_read(cache.begin_read(), {ref: value})


@pytest.mark.parametrize(
    "value", [b"bytes", "text", {"a": [1, None, b"x", 1.5, True]}, [], 0, False, b"", ""]
)
def test_a_value_comes_back_alike(cache: OwnerCache, value: Any) -> None:
    remember(cache, SESSION, value)
    found = cache.get(*SESSION)
    assert found == value
    assert type(found) is type(value)


def test_a_value_is_the_callers_own(cache: OwnerCache) -> None:
    value: dict[str, Any] = {"list": [1]}
    remember(cache, SESSION, value)
    value["list"].append(2)
    cache.get(*SESSION)["list"].append(3)
    assert cache.get(*SESSION) == {"list": [1]}


def test_stored_text_is_decoded_when_it_is_asked_for(cache: OwnerCache) -> None:
    cache.put(SESSION, Stored(b'{"list": [1]}'))
    cache.get(*SESSION)["list"].append(2)
    assert cache.get(*SESSION) == {"list": [1]}


def test_absence_is_remembered_and_told_apart_from_not_knowing(cache: OwnerCache) -> None:
    remember(cache, SESSION, ABSENT)
    assert cache.get(*SESSION) is ABSENT
    assert cache.get("session", "2.0") is None


def test_a_read_that_began_before_a_write_does_not_undo_it(cache: OwnerCache) -> None:
    reading = cache.begin_read()
    cache.put(SESSION, Stored(b'"new"'))
    cache.end_read(reading, {SESSION: "old", MAPPING: "fine"})
    assert cache.get(*SESSION) == "new"
    assert cache.get(*MAPPING) == "fine"


@pytest.mark.parametrize("refs", [[SESSION], None], ids=["its key", "every key"])
def test_while_a_write_is_under_way_its_keys_are_not_remembered(
    cache: OwnerCache, refs: list[tuple[str, str]] | None
) -> None:
    remember(cache, SESSION, "old")
    before = cache.begin_read()
    cache.begin_write(refs)
    assert cache.get(*SESSION) is None
    during, longer = cache.begin_read(), cache.begin_read()
    cache.end_read(during, {SESSION: "old"})
    assert cache.get(*SESSION) is None
    cache.end_write(refs)
    cache.end_read(before, {SESSION: "old"})
    assert cache.get(*SESSION) is None
    # It may have seen the old value, and the write may have been executed although it failed.
    cache.end_read(longer, {SESSION: "old", OTHER: "fine"})
    assert cache.get(*SESSION) is None
    assert cache.get(*OTHER) == (None if refs is None else "fine")
    remember(cache, SESSION, "read after it had ended")
    assert cache.get(*SESSION) == "read after it had ended"
    cache.put(SESSION, Stored(b'"new"'))
    assert cache.get(*SESSION) == "new"


def test_a_write_that_ends_during_another_leaves_that_ones_keys_alone(cache: OwnerCache) -> None:
    cache.begin_write(None)
    cache.begin_write([OTHER])
    cache.end_write([OTHER])
    remember(cache, SESSION, "old")
    assert cache.get(*SESSION) is None
    cache.end_write(None)
    remember(cache, SESSION, "new")
    assert cache.get(*SESSION) == "new"


def test_a_read_that_began_before_everything_was_forgotten_is_not_remembered(
    cache: OwnerCache,
) -> None:
    reading = cache.begin_read()
    cache.clear()
    cache.end_read(reading, {SESSION: "old"})
    assert cache.get(*SESSION) is None
    remember(cache, SESSION, "young")
    assert cache.get(*SESSION) == "young"


def test_reads_that_ended_are_not_watched_for(cache: OwnerCache) -> None:
    for _ in range(10):
        remember(cache, SESSION, "x")
    cache.put(SESSION, Stored(b'"new"'))
    assert cache._written == {}


def test_many_reads_at_once_each_see_the_writes_since_they_began(cache: OwnerCache) -> None:
    before = cache.begin_read()
    cache.put(SESSION, Stored(b'"new"'))
    after = cache.begin_read()
    cache.end_read(after, {SESSION: "seen after"})
    assert cache.get(*SESSION) == "seen after"
    cache.end_read(before, {SESSION: "seen before"})
    assert cache.get(*SESSION) == "seen after"


def test_what_may_expire_is_asked_for_again_after_twelve_hours(
    cache: OwnerCache, clock: Clock
) -> None:
    remember(cache, MAPPING, "2")
    remember(cache, SESSION, "s")
    remember(cache, ("lid-mapping", "unknown"), ABSENT)
    clock.now = 0.49 * DAY
    assert cache.get(*MAPPING) == "2"
    clock.now = 0.51 * DAY
    assert cache.get(*MAPPING) is None
    assert cache.get("lid-mapping", "unknown") is None
    clock.now = 400 * DAY
    assert cache.get(*SESSION) == "s"


def test_bytes_are_bounded_and_the_least_recently_used_goes_first(cache: OwnerCache) -> None:
    for n in range(50):
        remember(cache, ("session", str(n)), b"x" * 1000)
    cache.get("session", "0")
    for n in range(50, 100):
        remember(cache, ("session", str(n)), b"x" * 1000)
        assert cache.bytes <= 100_000
    assert cache.get("session", "0") is not None
    assert cache.get("session", "1") is None
    assert cache.get("session", "99") is not None


def test_a_value_larger_than_the_cache_is_not_kept_and_its_old_one_neither(
    cache: OwnerCache,
) -> None:
    remember(cache, SESSION, b"old")
    cache.put(SESSION, Stored(b"x" * 200_000))
    assert cache.get(*SESSION) is None
    assert cache.bytes == 0


def test_the_count_of_bytes_is_right_after_all_kinds_of_changes(cache: OwnerCache) -> None:
    for n in range(500):
        ref = ("session", str(n % 7))
        if n % 3 == 0:
            cache.put(ref, Stored(b'{"a": 1}' + b" " * n))
        elif n % 3 == 1:
            cache.get(*ref)
        else:
            remember(cache, ref, {"n": [n] * (n % 20)})
        if n % 11 == 0:
            cache.begin_write([ref])
            cache.end_write([ref])
    assert cache.bytes == sum(entry[2] for entry in cache._entries.values())
    cache.clear()
    assert (cache.bytes, len(cache)) == (0, 0)
