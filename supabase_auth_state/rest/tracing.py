"""A span for every request, where the OpenTelemetry API is installed; nothing where it is not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer


@contextmanager
def traced(what: str) -> Iterator[None]:
    """Make a span around a request, retries included.

    Args:
        what: what is attempted; it becomes the span's name. It has no values, no company and no
            address. Of an error the span gets the class alone.
    """
    tracer = _tracer()
    if tracer is None:
        yield
        return
    from opentelemetry.trace import SpanKind, Status, StatusCode

    with tracer.start_as_current_span(
        what, kind=SpanKind.CLIENT, record_exception=False, set_status_on_exception=False
    ) as span:
        span.set_attribute("db.system.name", "postgresql")
        try:
            yield
        except BaseException as error:
            span.set_status(Status(StatusCode.ERROR, type(error).__name__))
            raise


@lru_cache(maxsize=1)
def _tracer() -> Tracer | None:
    try:
        from opentelemetry import trace
    except ImportError:
        return None
    return trace.get_tracer("supabase_auth_state")
