"""Something that can be awaited, or entered with ``async with`` and is then closed at the end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Protocol, TypeVar

if TYPE_CHECKING:
    from typing_extensions import Self


class Closable(Protocol):
    """What an `Opening` opens."""

    async def close(self) -> None:
        """Give back whatever is held."""
        ...


class AsyncOnly:
    """What is entered with ``async with``, and says so when it is entered with ``with``."""

    def __enter__(self) -> NoReturn:
        raise TypeError("write `async with`: this is opened and closed by awaiting")

    def __exit__(self, *_: object) -> None:
        """Never reached; Python asks for it before it calls ``__enter__``."""


class Closing(AsyncOnly):
    """Something that is closed at the end of ``async with``."""

    async def close(self) -> None:
        """Give back whatever is held."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


T = TypeVar("T", bound=Closable)


class Opening(AsyncOnly, Generic[T]):
    """``await`` it and close what it gives, or ``async with`` it, which closes it."""

    def __init__(self, open_it: Callable[[], Awaitable[T]]) -> None:
        self._open_it = open_it
        self._opened: T | None = None

    def __await__(self) -> Generator[Any, None, T]:
        return self._open_it().__await__()

    async def __aenter__(self) -> T:
        self._opened = await self._open_it()
        return self._opened

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._opened is not None:
            await self._opened.close()
