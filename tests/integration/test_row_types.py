"""The types of the tables' rows are those of the migrations, and of what PostgREST answers."""

from __future__ import annotations

import typing
from pathlib import Path

import pytest

from devstack import LocalStack
from devstack.row_types import ROWS, generated, row_types
from supabase_auth_state import Rest, import_folder
from supabase_auth_state.rest import rows
from tests.folders import sample_folder


def test_the_types_in_the_repository_are_those_of_the_tables(local_stack: LocalStack) -> None:
    with local_stack.fresh(migrate=True) as fresh:
        assert ROWS.read_text() == row_types(generated(fresh)), "stale: run `make types`"


@pytest.mark.parametrize(
    ("table", "row"),
    [
        ("whatsapp_auth", rows.WhatsappAuthRow),
        ("whatsapp_keys", rows.WhatsappKeysRow),
        ("whatsapp_leases", rows.WhatsappLeasesRow),
    ],
)
async def test_rows_are_of_their_types(
    rest: Rest, company_id: str, tmp_path: Path, table: str, row: type
) -> None:
    await import_folder(sample_folder("v7-small", tmp_path), company_id, client=rest)
    found = await rest.select(
        table, lambda client: client.from_(table).select("*").eq("company_id", company_id)
    )
    types = typing.get_type_hints(row)
    assert found
    for values in found:
        assert values.keys() == types.keys()
        for name, value in values.items():
            wanted = typing.get_args(types[name]) or (types[name],)
            assert typing.Any in wanted or type(value) in wanted, name
