"""-e: what it accepts, and what it refuses before anything is compared or written."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.manifest.variables import parse_extra_vars
from reconciler.model.errors import ManifestError, UsageError


def test_later_words_override_and_files_and_objects_keep_types(tmp_path: Path) -> None:
    (tmp_path / "v.yaml").write_text("seats: 5\nname: file\n")
    words = ("name=first", f"@{tmp_path}/v.yaml", '{"more": [1, null]}', "name=a=b c", "empty=")
    assert parse_extra_vars(words) == {"seats": 5, "name": "a=b c", "more": [1, None], "empty": ""}


PAIRS = {
    "a=1 b=2": {"a": "1", "b": "2"},
    " a=1\n b=": {"a": "1", "b": ""},
    "company='Nome da Empresa' n=5": {"company": "Nome da Empresa", "n": "5"},
    'company="O\'Hara"': {"company": "O'Hara"},
    "url=https://x/?a=1 b=2": {"url": "https://x/?a=1", "b": "2"},
    "company=Nome da Empresa": {"company": "Nome da Empresa"},
    "company=Joe's Bar n=5": {"company": "Joe's Bar n=5"},
    'x={"a": 1}': {"x": '{"a": 1}'},
}


@pytest.mark.parametrize("word", PAIRS)
def test_a_word_of_several_pairs_is_read_as_ansible_does(word: str) -> None:
    assert parse_extra_vars((word,)) == PAIRS[word]


UNSTORABLE = {
    "bytes that are no UTF-8": "a=x\udcff",
    "an escape sequence": "a=x\x1b[31m",
    "half a character": r'{"a": "\ud800"}',
    "NUL, deep": r'{"a": [{"b": "\u0000"}]}',
    "a key": r'{"a": {"\u0007": 1}}',
    "a number out of range": '{"a": 1e999}',
}


@pytest.mark.parametrize("what", UNSTORABLE)
def test_what_no_database_takes_is_refused(what: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_extra_vars((UNSTORABLE[what],))
    assert caught.value.message == '-e "a" holds a character or number that cannot be stored'


@pytest.mark.parametrize("word", ["NaN", "-Infinity"])
def test_invalid_json_is_refused(word: str) -> None:
    with pytest.raises(UsageError, match="is not a JSON object"):
        parse_extra_vars((f'{{"a": {word}}}',))


def test_a_file_without_a_name_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match='-e "@" names no file'):
        parse_extra_vars(("@",))


RULE = "letters, digits and _ are, a letter first, and no word that templates know"


@pytest.mark.parametrize(
    ("word", "message", "hint"),
    [
        ("instance=x", "is a word of templates or the manifest's own", "take another name for the variable"),
        ("not=x", "is a word of templates or the manifest's own", "take another name for the variable"),
        (
            "a-b=x",
            "is not a valid variable name",
            RULE,
        ),
        (
            "1a=x",
            "is not a valid variable name",
            RULE,
        ),
    ],
)
def test_a_name_that_cannot_be_has_its_reason(word: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_extra_vars((word,))
    assert (caught.value.message, caught.value.hint) == (f'-e "{word[:-2]}" {message}', hint)


@pytest.mark.parametrize("text", ["", "# none yet\n", "- a\n"])
def test_a_file_of_variables_is_one_mapping(text: str, tmp_path: Path) -> None:
    file = tmp_path / "vars.yaml"
    file.write_text(text)
    with pytest.raises(ManifestError) as refused:
        parse_extra_vars((f"@{file}",))
    (problem,) = refused.value.problems
    assert (problem.message, problem.hint) == ("a file of variables is one mapping", "write name: value")
