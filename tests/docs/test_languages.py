"""The Russian pages say the same as the English ones, as far as a test can tell."""

from __future__ import annotations

import re

import pytest

from tests.docs.blocks import ROOT, blocks_of, without_comments

IN_RUSSIAN = {"README.ru.md": "README.md"} | {
    str(path.relative_to(ROOT)): f"docs/{path.name}" for path in ROOT.glob("docs/ru/*.md")
}
both = pytest.mark.parametrize(("russian", "english"), IN_RUSSIAN.items())


def test_the_pages_that_a_team_needs_are_there_in_russian() -> None:
    names = {"start", "deployment", "moving", "runbook"}
    assert {"README.ru.md", *(f"docs/ru/{name}.md" for name in names)} == IN_RUSSIAN.keys()


@both
def test_the_commands_are_the_same_in_both_languages(russian: str, english: str) -> None:
    assert commands(russian) == commands(english)


def commands(page: str) -> list[tuple[str, list[str]]]:
    return [(block.language, without_comments(block.code)) for block in blocks_of(page)]


@both
def test_the_outline_is_the_same_in_both_languages(russian: str, english: str) -> None:
    assert outline(russian, r"^#+(?= )") == outline(english, r"^#+(?= )")
    assert outline(russian, r"^ *\d+\.(?= )") == outline(english, r"^ *\d+\.(?= )")
    tables = r"^\|"
    assert len(outline(russian, tables)) == len(outline(english, tables))


def outline(page: str, pattern: str) -> list[str]:
    text = re.sub(
        r"^ *```.*?^ *```$", "", (ROOT / page).read_text(), flags=re.MULTILINE | re.DOTALL
    )
    return re.findall(pattern, text, re.MULTILINE)


@both
def test_what_a_reader_types_is_named_in_both_languages(russian: str, english: str) -> None:
    assert code_words(russian) == code_words(english)


def code_words(page: str) -> set[str]:
    """The inline code of a page: names of commands, errors, settings, types."""
    text = re.sub(
        r"^ *```.*?^ *```$", "", (ROOT / page).read_text(), flags=re.MULTILINE | re.DOTALL
    )
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    return {" ".join(word.split()) for word in re.findall(r"`([^`]+)`", text)}


def test_another_command_in_one_language_is_noticed() -> None:
    assert without_comments("a --b  # x\n") == without_comments("a --b  # ж\n# z\n")
    assert without_comments("a --b\n") != without_comments("a --c\n")
