"""A TCP line from one process to the API that a test can disturb."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

_LAST_WORDS = 1.0
"""Seconds that what was sent last travels on after its sender is gone."""


class Line:
    """Carries connections to the API; can be cut, and can hold back what it carries.

    What is held back arrives when the line flows again, even if its sender has died meanwhile: the
    request that was long on its way.

    Attributes:
        url: the API at this end of the line.
    """

    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        self.url = ""
        self._upstream = (parts.hostname, parts.port)
        self._cut = False
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._ends: set[asyncio.StreamWriter] = set()
        self._carrying: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Listen on a free port."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        """End the line and everything on it."""
        self._server.close()
        self.cut()
        for task in self._carrying:
            task.cancel()
        await asyncio.gather(*self._carrying, return_exceptions=True)

    def cut(self) -> None:
        """Break every connection and refuse new ones."""
        self._cut = True
        for end in self._ends:
            end.transport.abort()

    def hold(self) -> None:
        """Keep every connection open and let nothing through, in either direction."""
        self._flowing.clear()

    def mend(self) -> None:
        """Carry again, and first of all what was held back."""
        self._cut = False
        self._flowing.set()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._carry(reader, writer))
        self._carrying.add(task)
        task.add_done_callback(self._carrying.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends = [writer]
        self._ends.add(writer)
        try:
            if self._cut:
                return
            up_reader, up_writer = await asyncio.open_connection(*self._upstream)
            ends.append(up_writer)
            self._ends.add(up_writer)
            up = self._pump(reader, up_writer)
            await asyncio.gather(up, self._pump(up_reader, writer))
        finally:
            self._ends.difference_update(ends)
            for end in ends:
                end.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                await self._flowing.wait()
                writer.write(data)
                await writer.drain()
            await asyncio.sleep(_LAST_WORDS)
        except OSError:
            pass
        finally:
            writer.close()
