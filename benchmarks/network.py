"""A network in between: `python benchmarks/network.py HOST:PORT …` passes TCP on, 10 ms each way.

Every chunk arrives `ONE_WAY` after it was sent, in order, whatever comes behind it meanwhile, so
the round trip is longer and the throughput is not less. Connections are passed on one to one and
kept as long as their ends keep them; a new one costs one round trip, as TCP's handshake does.

It runs as a process of its own, on the standard library alone, prints the ports that it listens on
and ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import json
import selectors
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

HOST = "127.0.0.1"
ONE_WAY = 0.010
"""Seconds that a chunk is under way."""

_CHUNK = 1 << 16
_MOST_CHUNKS = 128  # that are under way in one direction: 8 MB, more than 6 Gbit/s


@asynccontextmanager
async def open_network(*targets: str) -> AsyncIterator[list[str]]:
    """Start the process, and give the addresses at which the targets are reached through it.

    Args:
        targets: each ``HOST:PORT``.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", __file__, *targets,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("the network's process has no pipes")
    try:
        yield [f"{HOST}:{port}" for port in json.loads(await process.stdout.readline())]
    finally:
        process.stdin.close()
        await process.wait()


async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Write what is read, `ONE_WAY` later, and then the end."""
    loop = asyncio.get_running_loop()
    under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_MOST_CHUNKS)

    async def receive() -> None:
        chunk = b"-"
        while chunk:
            try:
                chunk = await reader.read(_CHUNK)
            except ConnectionError:
                chunk = b""
            await under_way.put((loop.time() + ONE_WAY, chunk))

    receiving = loop.create_task(receive())
    try:
        while True:
            due, chunk = await under_way.get()
            await asyncio.sleep(due - loop.time())
            if not chunk:
                break
            writer.write(chunk)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.transport.abort()
    finally:
        receiving.cancel()


async def serve(targets: list[str]) -> None:
    """Pass connections on to the targets until standard input ends."""
    ports = [await _listen(*target.rsplit(":", 1)) for target in targets]
    print(json.dumps(ports), flush=True)
    ended = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(ended), sys.stdin)
    await ended.read()
    under_way = asyncio.all_tasks() - {asyncio.current_task()}
    for task in under_way:
        task.cancel()
    await asyncio.gather(*under_way, return_exceptions=True)


async def _listen(host: str, port: str) -> int:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(2 * ONE_WAY)
        try:
            far_reader, far_writer = await asyncio.open_connection(host, port)
        except OSError:
            writer.transport.abort()
            return
        await asyncio.gather(pass_on(reader, far_writer), pass_on(far_reader, writer))
        far_writer.close()
        writer.close()

    server = await asyncio.start_server(connected, HOST, 0)
    port_here: int = server.sockets[0].getsockname()[1]
    return port_here


def main() -> None:
    """Serve until standard input ends."""
    # It wakes up to the microsecond; epoll's waits are whole milliseconds.
    with closing(asyncio.SelectorEventLoop(selectors.SelectSelector())) as loop:
        loop.run_until_complete(serve(sys.argv[1:]))


if __name__ == "__main__":
    main()
