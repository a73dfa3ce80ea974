from __future__ import annotations

import asyncio
import json
import random
import socket
import time
from contextlib import suppress

import pytest

from benchmarks import sample
from benchmarks.contestants.library import LIBRARY
from benchmarks.network import HOST, ONE_WAY, open_network
from benchmarks.plots import BARS, PICTURES, REPORT
from benchmarks.report import markdown, quantity, read_report
from benchmarks.stats import Result, Results, interleave, spread
from benchmarks.workloads import keyops
from supabase_auth_state import codec


def test_a_single_sample_is_its_own_quartiles() -> None:
    result = Result("get 1", "floor", (2.0,))

    assert result.median == 2.0
    assert result.quartiles == (2.0, 2.0)


def test_spread_is_the_middle_half_over_the_median() -> None:
    assert spread([1.0, 2.0, 3.0, 4.0, 5.0]) == pytest.approx((4.0 - 2.0) / 3.0)


def test_ratio_compares_medians_of_one_workload() -> None:
    results = Results()
    results.add(Result("get 1", "floor", (1.0, 2.0, 90.0)))
    results.add(Result("get 1", "port", (4.0,)))
    results.add(Result("get 100", "port", (99.0,)))

    assert results.ratio("get 1", "port", "floor") == 2.0


def test_ratio_of_what_was_not_measured_is_none() -> None:
    results = Results()
    results.add(Result("get 1", "floor", (1.0,)))

    assert results.ratio("get 1", "port", "floor") is None


async def test_interleave_runs_everybody_in_every_round_and_forgets_the_warm_up() -> None:
    calls: list[str] = []

    def action(name: str, first: float) -> object:
        times = iter([first, 1.0, 2.0, 3.0])

        async def run() -> float:
            calls.append(name)
            return next(times)

        return run

    actions = {name: action(name, 1000.0) for name in ("a", "b", "c")}
    samples = await interleave(actions, rounds=3, warmups=1)  # type: ignore[arg-type]

    assert samples == dict.fromkeys("abc", (1.0, 2.0, 3.0))
    rounds = [calls[start : start + 3] for start in range(0, 12, 3)]
    assert all(sorted(order) == ["a", "b", "c"] for order in rounds)
    assert len({tuple(order) for order in rounds}) > 1


async def test_who_is_primed_runs_twice_in_a_row_and_the_second_time_counts() -> None:
    calls: list[str] = []

    def action(name: str) -> object:
        async def run() -> float:
            calls.append(name)
            return float(len(calls) % 2)

        return run

    actions = {name: action(name) for name in ("a", "b")}
    samples = await interleave(actions, rounds=2, warmups=0, primed=True)  # type: ignore[arg-type]

    assert samples == dict.fromkeys("ab", (0.0, 0.0))
    assert calls[::2] == calls[1::2]


async def test_a_network_keeps_bytes_in_order_on_the_connection_they_came_by() -> None:
    connections: list[asyncio.StreamWriter] = []

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        while chunk := await reader.read(1 << 16):
            writer.write(chunk)
            await writer.drain()
        writer.close()

    sent = random.Random(1).randbytes(4 << 20)
    async with await asyncio.start_server(echo, HOST, 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with open_network(f"{HOST}:{port}") as (far,):
            reader, writer = await asyncio.open_connection(*far.split(":"))
            started = time.monotonic()
            writer.write(sent[:1])
            assert await reader.readexactly(1) == sent[:1]
            # A new connection costs a round trip of its own.
            assert time.monotonic() - started >= 4 * ONE_WAY
            writer.write(sent[1:])
            writer.write_eof()
            assert await reader.read() == sent[1:]
            writer.close()
    assert len(connections) == 1


async def test_a_network_closes_a_connection_that_its_target_refuses() -> None:
    with socket.socket() as unused:
        unused.bind((HOST, 0))
        async with open_network(f"{HOST}:{unused.getsockname()[1]}") as (far,):
            reader, writer = await asyncio.open_connection(*far.split(":"))
            with suppress(ConnectionError):
                assert await reader.read() == b""
            writer.close()


def test_the_report_says_what_was_reached_and_every_median_with_its_spread() -> None:
    results = Results()
    results.add(Result(keyops.GET_1, "floor", (0.001, 0.002, 0.003), group="keys"))
    results.add(Result(keyops.GET_1, LIBRARY, (0.003, 0.003), group="keys"))
    results.add(Result(keyops.SET_1, "floor", (0.001,), group="keys"))
    results.add(Result(keyops.SET_1, LIBRARY, (0.002,), group="keys", note="made up"))

    lines = markdown(results, {"processors": "2"}).splitlines()

    assert "| get 1, cold / floor | at most 1.6 times | 1.50 times | reached |" in lines
    assert "| set 1 / floor | at most 1.6 times | 2.00 times | **not reached** |" in lines
    assert "| cold start | at most 2 requests |  | not measured |" in lines
    assert "| | floor | this library |" in lines
    assert "| get 1 | 2.00 ms (50%) | 3.00 ms (0%) |" in lines
    assert "| set 1 | 1.00 ms | 2.00 ms |" in lines
    assert "set 1, this library: made up." in lines
    assert "- processors: 2" in lines


def test_a_made_up_company_has_the_samples_sizes_and_other_bytes() -> None:
    first, second = sample.company(1), sample.company(2)

    assert sum(map(len, first.values())) == len(sample.texts()) == 335
    assert _size(first) == pytest.approx(_size(second), rel=0.01)
    assert first["session"].keys().isdisjoint(second["session"])
    assert first["pre-key"].keys() == second["pre-key"].keys()
    assert first["pre-key"] != second["pre-key"]


def test_made_up_values_are_ones_that_the_library_stores() -> None:
    keys = sample.company(3) | {
        "sender-key": {"1@g.us::2::0": sample.own_sender_key(400_000, random.Random(1))}
    }

    for _, key_type, key_id, document in sample.rows("", keys):
        value = codec.decode(document, company_id=None, key_type=key_type, key_id=key_id)
        assert codec.encode(value, company_id=None, key_type=key_type, key_id=key_id) == document


def _size(keys: sample.Keys) -> int:
    return len(json.dumps(keys, separators=(",", ":")))


def test_a_report_is_read_as_it_was_written() -> None:
    results = Results()
    results.add(Result("get 1", "floor", (0.0031, 0.0034, 0.0038), group="keys"))
    results.add(Result("get 1", "port", (2.0,), group="keys"))
    results.add(Result("mix", "port", (1800.0, 1871.0, 1900.0), "messages/s", group="mix"))
    read = read_report(markdown(results, {}))
    assert [(item.workload, item.contestant, item.unit) for item in read.items] == [
        (item.workload, item.contestant, item.unit) for item in results.items
    ]
    for found, written in zip(read.items, results.items, strict=True):
        assert found.median == pytest.approx(written.median, rel=0.01)
        assert spread(found.samples) == pytest.approx(spread(written.samples), abs=0.006)


def test_the_pictures_of_the_documentation_are_those_of_the_report() -> None:
    results = read_report(REPORT.read_text("utf-8"))
    for name in ("key-operations", "at-once", "message-mix"):
        picture = (PICTURES / f"{name}.svg").read_text("utf-8")
        shown = [item for item in results.items if item.workload in BARS[name]]
        assert len(shown) > 4
        for item in shown:
            assert f">{quantity(item.median, item.unit)}</text>" in picture
