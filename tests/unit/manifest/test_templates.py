"""Templates: their values, what the allow-list refuses, and that both ways of rendering agree with Jinja2."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import jinja2
import pytest

from reconciler.manifest import templates
from reconciler.manifest.expressions import FILTERS, parse_expressions
from reconciler.manifest.template_budget import Budget, TemplateError
from reconciler.manifest.templates import Renderer

NAMES: dict[str, Any] = {
    "company": "Padaria São Jorge",
    "number": 5,
    "flag": True,
    "empty": "",
    "words": ["b", "a"],
    "labels": {"region": "br-south", "items": "an item, not a method"},
    "vars": {"company": "Padaria São Jorge"},
    "instance": "client-abc-123",
    "environment": "production",
    "half": "x" * 600_000,
}

GIVEN: dict[str, Any] = {
    "{{ company }}": "Padaria São Jorge",
    "{{company}}": "Padaria São Jorge",
    "a {{ company }} of {{ labels.region }}": "a Padaria São Jorge of br-south",
    "{{ number }}": 5,
    "{{ flag }}": True,
    "{{ words }}": ["b", "a"],
    "{{ labels.items }}": "an item, not a method",
    "{{ vars.company }}": "Padaria São Jorge",
    "is {{ flag }}": "is True",
    "{{ number + 1 }}": 6,
    "{{ 'a' + company }}": "aPadaria São Jorge",
    "{{ words + ['c'] }}": ["b", "a", "c"],
    "{{ number ~ '-' ~ flag }}": "5-True",
    "{{ words[0] }}": "b",
    "{{ words[-1] }}": "a",
    "{{ labels['region'] }}": "br-south",
    "{{ 'prod' if environment == 'production' else 'dev' }}": "prod",
    "{{ number > 3 and not empty }}": True,
    "{{ 'prod' if environment == 'development' else 'dev' }}": "dev",
    "{{ [number == 5, number == 4, number != 4, number != 5] }}": [True, False, True, False],
    "{{ [number < 6, number < 5, number <= 5, number <= 4] }}": [True, False, True, False],
    "{{ [number > 4, number > 5, number >= 5, number >= 6] }}": [True, False, True, False],
    "{{ ['a' in words, 'c' in words, 'c' not in words, 'a' not in words] }}": [True, False, True, False],
    "{{ [5 < number <= 5, 1 < number <= 4] }}": [False, False],
    "{{ empty or 'x' }}": "x",
    "{{ 'south' in labels.region }}": True,
    "{{ 1 < number <= 5 }}": True,
    "{{ {'a': [number, -1.5, none]} }}": {"a": [5, -1.5, None]},
    "{{ missing | default('d') }}": "d",
    "{{ labels.missing | default('d') }}": "d",
    "{{ empty | default('d', true) }}": "d",
    "{{ company | lower | replace(' ', '-') }}": "padaria-são-jorge",
    "{{ words | sort | join(', ') }}": "a, b",
    "{{ words | length }}": 2,
    "{{ '12' | int + 1 }}": 13,
    "{{ ' -7 ' | int }}": -7,
    "{{ 2.0 | int }}": 2,
    "{{ '' | int(60) }}": 60,
    "{{ 'TRUE' | bool }}": True,
    "{{ 'VERDADEIRO' | bool }}": True,
    "{{ 'Falso' | bool }}": False,
    "{{ false | bool }}": False,
    "{{ '' | bool(false) }}": False,
    "{{ labels | tojson }}": '{"items": "an item, not a method", "region": "br-south"}',
    "{{ '<' | tojson ~ '<' }}": '"\\u003c"<',
    "{{ words | first ~ words | last }}": "ba",
    "{{ ' x ' | trim | upper | title | capitalize }}": "X",
    "{{ number | string }}": "5",
    "{{- company -}} !": "Padaria São Jorge!",
    "{{ '{{' }} and }}": "{{ and }}",
    "two\nlines {{ number }}\n": "two\nlines 5\n",
}


@pytest.mark.parametrize("text", GIVEN)
def test_gives(text: str) -> None:
    value = Renderer().render(text, NAMES)
    assert (type(value), value) == (type(GIVEN[text]), GIVEN[text])


REFUSED = {
    "{{ compny }}": '"compny" is not defined',
    "{{ labels.regoin }}": '"regoin" is not defined',
    "{{ missing.deeper | default('d') }}": '"missing" is not defined',
    "{{ words[7] }}": '"7" is not defined',
    "{{ number.real }}": '"real" is not defined',
    "{{ 'x' if empty }}": "an if without else has no value here",
    "{{ company() }}": "a call is not allowed in a template",
    "{{ company.upper() }}": "a call is not allowed in a template",
    "{{ 'a' * 9 }}": "* is not allowed in a template",
    "{{ 2 ** 9 }}": "** is not allowed in a template",
    "{{ '%s' % 1 }}": "% is not allowed in a template",
    "{{ number - 1 }}": "- is not allowed in a template",
    "{{ -number }}": "- is not allowed in a template",
    "{{ 1 / 2 }}": "/ is not allowed in a template",
    "{{ 1 // 2 }}": "// is not allowed in a template",
    "{{ words[0:1] }}": "a slice is not allowed in a template",
    "{{ company is defined }}": '"is" is not allowed in a template',
    "{{ 1, 2 }}": "a tuple is not allowed in a template",
    "{{ company.__class__ }}": "an attribute that begins with _ is not allowed in a template",
    "{{ words | map('upper') }}": 'the filter "map" is not allowed',
    "{{ words | attr('x') }}": 'the filter "attr" is not allowed',
    "{{ '%s' | format(1) }}": 'the filter "format" is not allowed',
    "{{ words | join(attribute='__class__') }}": 'the filter "join" takes at most 1 arguments, without names',
    "{{ words | sort(false, false, '__class__') }}": 'the filter "sort" takes at most 1 arguments, without names',
    "{% if flag %}x{% endif %}": "statements and comments, {% … %} and {# … #}, are not allowed",
    "{% raw %}x{% endraw %}": "statements and comments, {% … %} and {# … #}, are not allowed",
    "x {# note #}": "statements and comments, {% … %} and {# … #}, are not allowed",
    "{{": "the template cannot be read",
    "{{ }}": "the template cannot be read",
    "{{ 'open }}": "the template cannot be read",
    "{{ " + "(" * 300 + "1" + ")" * 300 + " }}": "the template cannot be read",
    "{{ " + "+".join("1" * 80) + " }}": "an expression nests deeper than 50 levels",
    "{{ half ~ half }}": "the templates render to more than 1 MiB",
    "{{ half + half }}": "the templates render to more than 1 MiB",
    "{{ [half, half] }}": "the templates render to more than 1 MiB",
    "{{ (half + half) | length }}": "the templates render to more than 1 MiB",
    "{{ half }}{{ half }}": "the templates render to more than 1 MiB",
    "{{ half | replace('x', 'yy') }}": "the templates render to more than 1 MiB",
    "{{ 'abc' | replace('', half) }}": "the templates render to more than 1 MiB",
    "{{ [1, 2, 3] | join(half) }}": "the templates render to more than 1 MiB",
    "{{ [" + "half|lower == '', " * 20 + "1] }}": "the templates work through more than 8 MiB",
    "{{ 1 < 'a' }}": "the expression does not fit the values that it is given",
    "{{ 1 + 'a' }}": "the expression does not fit the values that it is given",
    "{{ [] | first }}": 'the filter "first" has no value to return',
    "{{ 99999999999999999999 }}": "a template renders a number that does not fit into 64 bits",
    "{{ 1e400 }}": "a template renders a number that does not fit into 64 bits",
    "{{ " + "1" * 5000 + " }}": "the template cannot be read",
    "{{ '' | int }}": 'the filter "int" got something that is not a whole number',
    "{{ '5 minutes' | int }}": 'the filter "int" got something that is not a whole number',
    "{{ true | int }}": 'the filter "int" got something that is not a whole number',
    "{{ '1_000' | int }}": 'the filter "int" got something that is not a whole number',
    "{{ '2.5' | int }}": 'the filter "int" got something that is not a whole number',
    "{{ words | int }}": 'the filter "int" got something that is not a whole number',
    "{{ '' | bool }}": 'the filter "bool" got something that is neither true nor false',
    "{{ 'sim' | bool }}": 'the filter "bool" got something that is neither true nor false',
    "{{ 1 | bool }}": 'the filter "bool" got something that is neither true nor false',
    "{{ words | bool }}": 'the filter "bool" got something that is neither true nor false',
    "{{ {1: 2} }}": "a key must be text",
}


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: text[:40])
def test_is_refused(text: str) -> None:
    with pytest.raises(TemplateError) as caught:
        Renderer().render(text, NAMES)
    assert caught.value.message == REFUSED[text]


def test_an_undefined_name_names_the_nearest() -> None:
    with pytest.raises(TemplateError) as caught:
        Renderer().render("{{ compny }}", NAMES)
    assert caught.value.hint == 'did you mean "company"?'


SIMPLE = [
    "{{ company }}",
    "{{company}}{{number}}",
    "a\n{{\tlabels.region }}\n",
    "{{ flag }} {{ labels }}",
    "{ {{ number }} }",
    "}} {{ number }} {",
    "{{ missing }}",
    "{{ labels.missing }}",
    "{{ number.real }}",
]


@pytest.mark.parametrize("text", SIMPLE)
def test_the_short_way_and_jinja_agree(text: str) -> None:
    def outcome(parts: templates.Parts) -> object:
        budget = Budget(1000, 1000)
        try:
            return [part if isinstance(part, str) else part.evaluate(NAMES, budget) for part in parts]
        except TemplateError as exc:
            return (exc.message, exc.hint)

    short = templates._parse_simple(text)
    assert short is not None
    long = parse_expressions(text)
    assert outcome(short) == outcome(long)
    assert [part.names for part in short if not isinstance(part, str)] == [
        part.names for part in long if not isinstance(part, str)
    ]


OURS = "items", "labels | tojson", "| bool"  # what Jinja lacks, or writes differently


@pytest.mark.parametrize("text", [text for text in GIVEN if not any(part in text for part in OURS)])
def test_texts_are_as_jinja_renders_them(text: str) -> None:
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    assert str(Renderer().render(text, NAMES)) == environment.from_string(text).render(NAMES)


def test_what_jinja_does_not_read_as_a_simple_name_goes_to_jinja() -> None:
    for text in ("{{{ company }}}", "{{ true }}", "{{ none }}", "{{ not }}", "x\r\n{{ number }}", "{{ _x }}"):
        assert templates._parse_simple(text) is None


def test_simple_templates_do_not_import_jinja() -> None:
    code = (
        "import sys; from reconciler.manifest.templates import Renderer;"
        "print(Renderer().render('{{ a }} {{ b.c }}', {'a': 1, 'b': {'c': 2}}), 'jinja2' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "1 2 False\n"


def test_every_filter_of_the_list_but_ansibles_bool_is_one_of_jinja() -> None:
    assert FILTERS.keys() - {"bool"} <= jinja2.Environment().filters.keys()


def test_the_whole_run_is_bounded_not_only_a_document() -> None:
    renderer = Renderer()
    for _ in range(templates.MAX_ALL // 600_000):
        renderer.start_document()
        renderer.render("{{ half }}", NAMES)
    renderer.start_document()
    with pytest.raises(TemplateError, match="more than 1 MiB"):
        renderer.render("{{ half }}", NAMES)


def test_many_different_complex_templates_are_refused_in_the_end() -> None:
    renderer = Renderer()
    fitting = templates.MAX_PARSED // 64
    assert [renderer.render(f"{{{{ 'x' ~ {index} }}}}", {}) for index in range(fitting)][-1] == f"x{fitting - 1}"
    with pytest.raises(TemplateError, match="too many different templates"):
        renderer.render("{{ 'one ' ~ 'more' }}", {})
    assert renderer.render("{{ 'x' ~ 0 }}", {}) == "x0"


def test_errors_never_show_values() -> None:
    names = {"secret": "hunter2", "words": ["hunter2"]}
    for text in (
        "{{ secret + 1 }}",
        "{{ secret.x }}",
        "{{ words['x'] }}",
        "{{ secret < 1 }}",
        "{{ words | sort(1, 2) }}",
    ):
        with pytest.raises(TemplateError) as caught:
            Renderer().render(text, names)
        assert "hunter2" not in caught.value.message + caught.value.hint
