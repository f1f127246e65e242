"""The references of the REST APIs, from the OpenAPI documents of the services.

`glance.cli.docs.pages` writes them. The applications are made with their default options in a
directory that is removed; they contact nobody.
"""

from __future__ import annotations

import pathlib
import re
import tempfile
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from glance import api, store
from glance.api import v1, v2
from glance.common import config
from glance.registry import server
from glance.registry.db import engine

GENERATED = (
    ".. Made by `tox -e docs`; change the descriptions in the code instead"
    " (glance/http/openapi.py).\n\n"
)
#: Stands for what the labels of a page begin with, until the page is whole.
_LABEL = "@LABEL"
_METHODS = ("get", "head", "post", "put", "patch", "delete")
_INTRODUCTION = (
    "The service has the same as a document in OpenAPI 3.1 at ``{path}``; "
    ":doc:`OpenAPI </how-to/openapi>` says what it is good for. Paths are relative to ``{root}``."
)


def pages() -> dict[str, str]:
    """Return the pages as path below the checkout -> text."""
    found = documents()
    parts = (
        ("images-api-v1", "users of the API", "v1", "/v1"),
        ("images-api-v2", "users of the API", "v2", "/v2"),
        ("registry-api", "developers", "registry", "/"),
    )
    return {
        f"doc/source/reference/{name}.rst": page(found[service], readers, root, name)
        for name, readers, service, root in parts
    }


def documents() -> dict[str, dict[str, Any]]:
    """Return the documents of services with default options: v1, v2 and registry."""
    with tempfile.TemporaryDirectory() as directory:
        conf = config.Conf({"filesystem_store_datadir": f"{directory}/images"})
        service = api.ImageService(conf, store.create_stores(conf))
        path = pathlib.Path(directory, "glance.sqlite")
        records = config.Conf({"sql_connection": f"sqlite:///{path}"})
        registry = server.RegistryAPI(records, engine.from_conf(records))
        return {
            "v1": v1.ImagesAPI(service).description.at("/v1"),
            "v2": v2.ImagesAPIv2(service).description.at("/v2"),
            "registry": registry.description.at("/"),
        }


def page(document: Mapping[str, Any], readers: str, root: str, label: str) -> str:
    """Return the reference of one API, for `readers`, whose paths begin with `root`.

    Its labels begin with `label`.
    """
    title = str(document["info"]["title"])
    path = f"{root.rstrip('/')}/openapi.json"
    lines = [title, "=" * len(title), "", *_filled(f"For {readers}: every request and response.")]
    for part in document["info"]["description"].strip().split("\n\n"):
        lines += ["", *_filled(_text(part))]
    lines += ["", *_filled(_INTRODUCTION.format(path=path, root=root))]
    for tag in document["tags"]:
        name = tag["name"].replace("_", " ").capitalize()
        lines += ["", name, "-" * len(name), "", *_filled(_text(tag["description"]))]
        for method, where, operation, shared in _operations(document, tag["name"]):
            lines += ["", *_operation(method, where, operation, shared)]
    lines += ["", "Schemas", "-------"]
    for name, schema in document["components"]["schemas"].items():
        lines += ["", f".. _{_LABEL}-{name}:", "", name, "~" * len(name), "", *_schema(schema)]
    lines += ["", "Errors", "------", ""]
    lines += _filled(
        "Each operation names the statuses of the errors that it may have; :doc:`Errors "
        "</reference/errors>` says what they mean, and which class of the client each one is."
    )
    text = "\n".join(lines).replace(f"{_LABEL}-", f"{label}-")
    return f"{GENERATED}{text}\n"


def _operations(
    document: Mapping[str, Any], tag: str
) -> Iterator[tuple[str, str, Mapping[str, Any], list[Any]]]:
    for where, item in document["paths"].items():
        for method in _METHODS:
            if method in item and tag in item[method]["tags"]:
                yield method.upper(), where, item[method], item.get("parameters", [])


def _operation(
    method: str, where: str, operation: Mapping[str, Any], shared: Iterable[Any]
) -> Iterator[str]:
    title = f"{method} {where}"
    yield from (title, "~" * len(title), "", *_filled(f"{_text(operation['summary'])}."))
    parameters = [*shared, *operation.get("parameters", ())]
    if parameters:
        yield from ("", *_table(map(_parameter_row, parameters), "parameter", "in", "value"))
    body = operation.get("requestBody")
    if body:
        need = "" if body["required"] else " It may be left out."
        about = _text(body.get("description", ""))
        yield from ("", *_filled(f"Body: {_contents(body['content'])}. {about}{need}".strip()))
    yield ""
    errors = []
    for status, response in operation["responses"].items():
        if "$ref" in response:
            errors.append(status)
            continue
        contents = _contents(response.get("content", {}))
        end = f" Body: {contents}." if contents else ""
        yield f"``{status}``"
        yield from _filled(f"{_text(response['description'])}{end}", "    ")
        own = [name for name in response["headers"] if name != "X-Openstack-Request-Id"]
        if own:
            names = ", ".join(f"``{name}``" for name in own)
            yield from _filled(f"Headers: {names}.", "    ")
    yield from ("", *_filled(f"Errors: {', '.join(errors)}."))


def _parameter_row(parameter: Mapping[str, Any]) -> tuple[str, str, str]:
    about = _text(parameter.get("description", ""))
    return (
        f"``{parameter['name']}``",
        parameter["in"],
        f"{_sentence(_type(parameter['schema']))} {about}".strip(),
    )


def _schema(schema: Mapping[str, Any]) -> Iterator[str]:
    properties = schema.get("properties")
    if not properties:
        yield from _filled(_sentence(_type(schema)))
        return
    required = set(schema.get("required", ()))
    rows = (
        (
            f"``{name}``",
            "yes" if name in required else "no",
            f"{_sentence(_type(value))} {_text(value.get('description', ''))}".strip(),
        )
        for name, value in properties.items()
    )
    yield from _table(rows, "key", "always", "value")


def _table(rows: Iterable[tuple[str, str, str]], *heads: str) -> Iterator[str]:
    yield from (".. list-table::", "   :header-rows: 1", "   :widths: 35 10 55", "")
    for row in (heads, *rows):
        mark = "* -"
        for cell in row:
            yield from textwrap.wrap(
                cell,
                99,
                initial_indent=f"   {mark} ",
                subsequent_indent="       ",
                break_long_words=False,
                break_on_hyphens=False,
            )
            mark = "  -"


def _contents(content: Mapping[str, Any]) -> str:
    """Return the media types of a body, each with its schema."""
    return ", or ".join(f"``{kind}``, {_type(one['schema'])}" for kind, one in content.items())


def _type(schema: Mapping[str, Any]) -> str:
    """Return a schema in words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f":ref:`{name} <{_LABEL}-{name}>`"
    if "enum" in schema:
        words = (f"``{'null' if word is None else word}``" for word in schema["enum"])
        return f"one of {', '.join(words)}"
    for key in ("anyOf", "oneOf"):
        if key in schema and "type" not in schema:
            return " or ".join(map(_type, schema[key]))
    if schema.get("format") == "binary":
        return "bytes"
    kinds = schema.get("type", "any value")
    text = kinds if isinstance(kinds, str) else " or ".join(kinds)
    if text == "array":
        items = schema.get("items", {})
        return f"array of {_type(items)}" if "properties" not in items else "array of objects"
    if text == "object":
        keys = ", ".join(f"``{name}``" for name in schema.get("properties", ()))
        return f"object with {keys}" if keys else "object"
    bounds = [
        f"{words} {schema[key]}"
        for key, words in (
            ("minimum", "at least"),
            ("maximum", "at most"),
            ("maxLength", "length at most"),
        )
        if key in schema
    ]
    if "pattern" in schema and len(schema["pattern"]) < 80:
        bounds.append(f"matches ``{schema['pattern']}``")
    if "format" in schema:
        bounds.append(f"a {schema['format']}")
    return f"{text} ({', '.join(bounds)})" if bounds else text


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _text(text: str) -> str:
    """Return a text of a document as reStructuredText."""
    pieces = re.split(r"`([^`]+)`", text)
    return "".join(
        f"``{piece}``" if number % 2 else re.sub(r"[*|\\]", r"\\\g<0>", piece)
        for number, piece in enumerate(pieces)
    )


def _filled(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(
        text,
        99,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
