"""What a service says of itself: an OpenAPI 3.1 document, made from its routes.

A handler is described where it is defined, with `operation`, and does not change by that. Its
summary is the first sentence of its docstring behind the method and the path:

    @openapi.operation("show_image", responses={200: openapi.json_of("Image")})
    def show(self, request: CallerRequest, id: str) -> wsgi.Response:
        '''GET /images/{id}: one image.'''

`document` joins these with the paths of a router and with the errors of `glance.common.httperror`.
What an `Api` names once, each of its operations has. Nothing here is used while a request is
served, but for the one that asks for the document (`glance.http.documents`).
"""

from __future__ import annotations

import dataclasses
import re
import typing
import urllib.parse
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

from glance.common import exception, httperror, statuses
from glance.http import documents, request_id, wsgi

VERSION: Final = "3.1.0"
#: The path of the document, relative to the root of an API.
PATH: Final = "/openapi.json"
JSON: Final = "application/json"
OCTETS: Final = "application/octet-stream"

Schema = Mapping[str, Any]
Handler = TypeVar("Handler", bound=Callable[..., wsgi.Response])

#: The form of a stream of bytes.
BINARY: Final[Schema] = {"type": "string", "format": "binary"}
TEXT: Final[Schema] = {"type": "string"}

_DESCRIBED = "_openapi"
_VARIABLE = re.compile(r"\{(\w+)\}")
_DOCSTRING = re.compile(r"[A-Z]+(?:(?:, | or )[A-Z]+)* /\S*?(?: or /\S*?)*:\s+(.*)", re.DOTALL)
_USE = re.compile(r"([A-Z]+)(?:(?:, | or )[A-Z]+)* (/[^\s:;,]*)")
#: Errors that any request may meet: of its form, its sender, and of what the service depends on.
_ANYWHERE: Final = (
    exception.Invalid,
    exception.NotAuthorized,
    exception.Forbidden,
    exception.UriTooLong,
    exception.HeadersTooLarge,
    exception.ServerError,
    exception.ServiceUnavailable,
)
#: What a JSON body can be refused for, besides being invalid.
_OF_JSON: Final = (exception.LimitExceeded, exception.UnsupportedCoding)


_PLAIN: Final[Mapping[object, str]] = {
    int: "integer",
    float: "number",
    str: "string",
    bool: "boolean",
    type(None): "null",
}


def schema_of(form: Any) -> dict[str, Any]:
    """Return the JSON schema of a type: a TypedDict, or what its keys may have.

    Those are plain types, unions of them, and lists and mappings of such.
    """
    if typing.is_typeddict(form):
        hints = typing.get_type_hints(form)
        return {
            "type": "object",
            "properties": {name: schema_of(hint) for name, hint in hints.items()},
            "required": sorted(form.__required_keys__),
        }
    if form is Any:
        return {}
    origin, arguments = typing.get_origin(form), typing.get_args(form)
    if origin is list:
        return {"type": "array", "items": schema_of(arguments[0])}
    if origin is dict:
        return {"type": "object", "additionalProperties": schema_of(arguments[1])}
    if arguments:
        if all(one in _PLAIN for one in arguments):
            return {"type": [_PLAIN[one] for one in arguments]}
        return {"anyOf": [schema_of(one) for one in arguments]}
    return {"type": _PLAIN[form]}


def object_of(properties: Mapping[str, Schema], *required: str) -> dict[str, Any]:
    """Return the schema of an object; without `required` names, all are required."""
    names = list(required or properties)
    return {"type": "object", "properties": dict(properties), "required": names}


def list_of(name: str, item: Schema) -> dict[str, Any]:
    """Return the schema of an object that has a list under a name."""
    return object_of({name: {"type": "array", "items": dict(item)}})


@dataclasses.dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a request; `where` is query, header or path.

    A `description` in the schema becomes that of the parameter. `pattern` is a regular expression
    of header names that `name` stands for, None if it is the name itself. The keys of an object
    in the query are parameters by themselves.
    """

    name: str
    where: str
    schema: Schema
    pattern: str | None = None

    def to_json(self) -> dict[str, Any]:
        schema = dict(self.schema)
        shown: dict[str, Any] = {"name": self.name, "in": self.where}
        if "description" in schema:
            shown["description"] = schema.pop("description")
        if self.where == "path":
            shown["required"] = True
        if schema.get("type") == "object":
            shown |= {"style": "form", "explode": True}
        if self.pattern is not None:
            shown["x-name-pattern"] = self.pattern
        return {**shown, "schema": schema}


def query(schemas: Mapping[str, Schema]) -> tuple[Parameter, ...]:
    """Return parameters of the query string, given as name -> schema."""
    return tuple(Parameter(name, "query", schema) for name, schema in schemas.items())


def headers(schemas: Mapping[str, Schema]) -> tuple[Parameter, ...]:
    """Return headers of a request, given as name -> schema."""
    return tuple(Parameter(name, "header", schema) for name, schema in schemas.items())


@dataclasses.dataclass(frozen=True, slots=True)
class Content:
    """The body of a request or a response: media type -> schema; without any there is none.

    `headers` are those that a response may have, by name. A `required` body must be there.
    """

    types: Mapping[str, Schema] = dataclasses.field(default_factory=dict)
    about: str = ""
    headers: Mapping[str, Schema] = dataclasses.field(default_factory=dict)
    required: bool = True

    def to_json(self) -> dict[str, Any]:
        return {kind: {"schema": dict(schema)} for kind, schema in self.types.items()}


def ref(name: str) -> Schema:
    """Return the schema that an `Api` has under a name."""
    return {"$ref": f"#/components/schemas/{name}"}


def json_of(name: str, about: str = "", headers: Mapping[str, Schema] | None = None) -> Content:
    """Return a JSON body whose schema the `Api` has under a name."""
    return Content({JSON: ref(name)}, about, headers or {})


def nothing(about: str = "") -> Content:
    """Return the response of a request that succeeded and has nothing to say."""
    return Content(about=about)


@dataclasses.dataclass(frozen=True, slots=True)
class Described:
    """What `operation` says of a handler."""

    name: str
    responses: Mapping[int, Content]
    parameters: tuple[Parameter, ...] = ()
    body: Content | None = None
    errors: tuple[type[Exception], ...] = ()


def operation(
    name: str,
    *,
    responses: Mapping[int, Content],
    parameters: Iterable[Parameter] = (),
    body: Content | None = None,
    errors: tuple[type[Exception], ...] = (),
) -> Callable[[Handler], Handler]:
    """Describe the handler of a route.

    `name` is that of a function in a generated client. `responses` are those of success, by
    status. `errors` are classes of `glance.common.exception` that the handler raises, besides
    those that any request may meet, NotFound below a variable of the path, and what a JSON body
    may be refused for.
    """
    described = Described(name, responses, tuple(parameters), body, errors)

    def note(handler: Handler) -> Handler:
        setattr(handler, _DESCRIBED, described)
        return handler

    return note


def described(handler: Callable[..., wsgi.Response]) -> Described | None:
    """Return what `operation` says of a handler, None for one without it."""
    found: Described | None = getattr(handler, _DESCRIBED, None)
    return found


def summary(handler: Callable[..., wsgi.Response]) -> str:
    """Return the first sentence about a handler, "" if its docstring has none."""
    first = " ".join((handler.__doc__ or "").split("\n\n")[0].split())
    found = _DOCSTRING.fullmatch(first)
    if not found:
        return ""
    text = found[1].rstrip(".")
    return text[:1].upper() + text[1:]


def _own_use(handler: Callable[..., wsgi.Response]) -> tuple[str, str]:
    """Return the method and the path that the docstring of a handler begins with."""
    found = _USE.match(handler.__doc__ or "")
    return (found[1], found[2]) if found else ("", "")


@dataclasses.dataclass(frozen=True, slots=True)
class Api:
    """What all operations of an API have in common.

    `variables` are the schemas of the variables in its paths, `schemas` those that `ref` names.
    `tags` are the groups of operations: the last part of a module's name -> a sentence. `errors`
    are those of every request, besides the ones of every service; `error_types` the forms of an
    error, media type -> schema. A `token` is needed always (True), or for some callers.
    """

    title: str
    version: str
    about: str
    variables: Mapping[str, Schema]
    schemas: Mapping[str, Schema]
    tags: Mapping[str, str]
    error_types: Mapping[str, Schema]
    errors: tuple[type[Exception], ...] = ()
    token: bool = True


Routes = Iterable[tuple[str, Mapping[str, Callable[..., wsgi.Response]]]]


def document(api: Api, routes: Routes, server: str) -> dict[str, Any]:
    """Return the document of an API at the URL `server`.

    `routes` are paths with their handlers by method, as `wsgi.Router.routes` has them.
    """
    builder = _Builder(api)
    paths: dict[str, Any] = {}
    for path, handlers in routes:
        shared = [
            Parameter(name, "path", api.variables.get(name, TEXT)).to_json()
            for name in _VARIABLE.findall(path)
        ]
        item: dict[str, Any] = {"parameters": shared} if shared else {}
        for method, handler in handlers.items():
            item[method.lower()] = builder.operation(path, method, handler)
        paths[path] = item
    security: list[dict[str, list[str]]] = [{"token": []}]
    return {
        "openapi": VERSION,
        "info": {"title": api.title, "version": api.version, "description": api.about},
        "servers": [{"url": server}],
        "security": security if api.token else [*security, {}],
        "tags": [{"name": name, "description": text} for name, text in api.tags.items()],
        "paths": paths,
        "components": {
            "schemas": {name: dict(schema) for name, schema in api.schemas.items()},
            "responses": dict(sorted(builder.errors.items())),
            "headers": {request_id.HEADER: _REQUEST_ID},
            "securitySchemes": {"token": _TOKEN},
        },
    }


_REQUEST_ID = {
    "description": "The id of the request, by which the logs of the daemons name it.",
    "schema": {"type": "string", "maxLength": request_id.MAX_LENGTH},
}
_REQUEST_ID_REF = {"$ref": f"#/components/headers/{request_id.HEADER}"}
_TOKEN = {
    "type": "apiKey",
    "in": "header",
    "name": "X-Auth-Token",
    "description": "A token of Keystone; X-Storage-Token is another name of the header.",
}


class _Builder:
    """Makes the operations of one document, and notes which errors they refer to."""

    def __init__(self, api: Api):
        self._api = api
        self._names: set[str] = set()
        self.errors: dict[str, Any] = {}

    def operation(
        self, path: str, method: str, handler: Callable[..., wsgi.Response]
    ) -> dict[str, Any]:
        found = described(handler) or Described(handler.__name__, {200: nothing()})
        shown: dict[str, Any] = {
            "operationId": self._name(found.name, path, method, _own_use(handler)),
            "summary": summary(handler) or found.name,
            "tags": [handler.__module__.rpartition(".")[2]],
        }
        if found.parameters:
            shown["parameters"] = [one.to_json() for one in found.parameters]
        if found.body is not None:
            shown["requestBody"] = {
                "required": found.body.required,
                "content": found.body.to_json(),
            }
            if found.body.about:
                shown["requestBody"]["description"] = found.body.about
        responses = {
            str(status): self._response(status, content, method)
            for status, content in found.responses.items()
        }
        for status, error in self._errors_of(path, found):
            responses.setdefault(str(status), {"$ref": f"#/components/responses/{error}"})
        shown["responses"] = dict(sorted(responses.items()))
        return shown

    def _name(self, name: str, path: str, method: str, own: tuple[str, str]) -> str:
        """Return a name for a use of a handler that no other use has.

        It is that of the handler for the method and the path that its docstring begins with.
        """
        if method != own[0]:
            name = f"{method.lower()}_{name}"
        if path != own[1]:
            words = [word for word in path.split("/") if word and not _VARIABLE.search(word)]
            name = f"{name}_{words[-1] if words else 'root'}"
        while name in self._names:
            name = f"{name}_too"
        self._names.add(name)
        return name

    def _response(self, status: int, content: Content, method: str) -> dict[str, Any]:
        shown: dict[str, Any] = {"description": content.about or statuses.REASONS[status]}
        own = {
            name: {
                **({"description": schema["description"]} if "description" in schema else {}),
                "schema": {key: v for key, v in schema.items() if key != "description"},
            }
            for name, schema in content.headers.items()
        }
        shown["headers"] = {**own, request_id.HEADER: _REQUEST_ID_REF}
        # The body of a response to HEAD is that of GET, which is not sent.
        if content.types:
            shown["content"] = content.to_json()
        return shown

    def _errors_of(self, path: str, found: Described) -> Iterable[tuple[int, str]]:
        classes: list[type[Exception]] = [*_ANYWHERE, *self._api.errors, *found.errors]
        if _VARIABLE.search(path):
            classes.append(exception.NotFound)
        if found.body is not None and OCTETS not in found.body.types:
            classes.extend(_OF_JSON)
        for status in sorted({httperror.status_of_class(error) for error in classes}):
            name = re.sub(r"[^A-Za-z]", "", statuses.REASONS[status])
            self.errors.setdefault(name, self._error(status))
            yield status, name

    def _error(self, status: int) -> dict[str, Any]:
        texts = dict.fromkeys(row.text for row in httperror.TABLE if row.status == status)
        described = {**httperror.HEADERS_OF.get(status, {}), **httperror.HEADERS_OF_ALL}
        return {
            "description": " ".join(texts),
            "headers": {
                **{
                    name: {"description": text, "schema": {"type": "string"}}
                    for name, text in described.items()
                },
                request_id.HEADER: _REQUEST_ID_REF,
            },
            "content": {
                kind: {"schema": dict(schema)} for kind, schema in self._api.error_types.items()
            },
        }


class Description:
    """The handler of `/openapi.json`.

    `make` returns what the API has in common, when the document is first wanted; `root` is the URL
    of the root of the API as the client of a request reaches it.
    """

    def __init__(
        self,
        make: Callable[[], Api],
        routes: Callable[[], Routes],
        root: Callable[[wsgi.Request], str],
    ):
        self._make, self._routes = make, routes
        self._document = documents.Document(self.at, root)

    def at(self, server: str) -> dict[str, Any]:
        """Return the document of the API at the URL `server`."""
        return document(self._make(), self._routes(), server)

    @operation(
        "show_description",
        responses={
            200: Content({JSON: {"type": "object"}}, "The document."),
            304: nothing("The client has the document already."),
        },
        parameters=headers({"If-None-Match": {**TEXT, "description": "ETags that it has."}}),
    )
    def show(self, request: wsgi.Request) -> wsgi.Response:
        """GET /openapi.json: this description of the service."""
        return self._document.response(request)


def path_of(url: str) -> str:
    """Return the path of a URL, by which a document names a server that serves it itself."""
    return urllib.parse.urlsplit(url).path or "/"
