"""An export that writes into its folder directly, killed at its points; prints what is wrong."""

from __future__ import annotations

from dataclasses import replace

import psycopg

from devstack import Stack
from faults import crashes
from supabase_auth_state import Rest


async def write_in_place(place: crashes.Place, rest: Rest) -> None:
    out = place.root / "out"
    out.mkdir(exist_ok=True)
    for name, content in place.files.items():
        (out / name).write_bytes(content)


def main() -> None:
    stack = Stack.from_env()
    assert stack is not None
    crashes.warm_up()
    [export] = [each for each in crashes.COMMANDS if each.name == "export, new folder"]
    with psycopg.connect(stack.db_url, autocommit=True) as db:
        line = crashes.Crashes(stack, every=3).line(replace(export, work=write_in_place), db)
    print("\n".join(line.wrong))


if __name__ == "__main__":
    main()
