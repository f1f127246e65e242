"""The table of errors and statuses, read both ways."""

import inspect
import json

import pytest

from glance.common import exception, httperror

ERRORS = [
    cls
    for _, cls in inspect.getmembers(exception, inspect.isclass)
    if issubclass(cls, exception.Error) and cls is not exception.Error
]


@pytest.mark.parametrize("cls", ERRORS, ids=lambda cls: cls.__name__)
def test_every_error_has_a_row(cls):
    assert any(row.error in cls.__mro__ for row in httperror.TABLE)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (exception.StorageFull(), 413),
        (exception.StorageWriteDenied(), 503),
        (exception.StoreObjectExists(), 409),
        (exception.StoreObjectNotFound(), 404),
        (exception.StoreForbidden(), 503),
        (exception.UnknownScheme("x"), 400),
        (exception.BadStoreUri("x"), 400),
        (exception.BackendUnavailable(), 503),
        (exception.BackendCorrupt(), 500),
        (exception.Conflict("x"), 409),
        (exception.ImageDeleted("x"), 412),
        (exception.PreconditionFailed("If-Match"), 412),
        (exception.UnsupportedCoding(), 415),
        (exception.RegistryUnavailable("x"), 503),
        (exception.ImageProtected("x"), 403),
        (ValueError("x"), 500),
        (exception.Error("x"), 500),
    ],
)
def test_the_most_specific_class_decides(error, status):
    assert httperror.status_of(error) == status


@pytest.mark.parametrize("status", [300, 400, 401, 403, 404, 409, 410, 413, 500, 503, 508])
def test_clients_get_back_an_error_of_the_same_status(status):
    error = httperror.from_status(status, f"{status} Reason\n\nThe explanation.\n")
    assert httperror.status_of(error) == status
    assert error.status == status
    assert "The explanation." in str(error)


def test_unforeseen_statuses_keep_the_old_prefix():
    error = httperror.from_status(418, "teapot")
    assert isinstance(error, exception.UnexpectedStatus)
    assert str(error).startswith("Unknown error occurred!")


def test_explanations_are_never_nested():
    inner = httperror.render(exception.Invalid("bad disk format"), {})[2].decode()
    outer = httperror.render(httperror.from_status(400, inner), {})[2].decode()
    assert outer == inner


@pytest.mark.parametrize("status", [413, 503])
def test_retry_after(status):
    error = {413: exception.StorageFull(), 503: exception.BackendUnavailable()}[status]
    headers = dict(httperror.render(error, {})[1])
    assert ("Retry-After" in headers) is (status == 503)


def test_a_text_that_utf8_cannot_hold_is_shown_as_well_as_it_can():
    status, _, data = httperror.render(exception.Invalid("Member \ud800 is named twice"), {})
    assert status == "400 Bad Request"
    assert data.endswith(b"Member ? is named twice\n")


def test_a_store_uri_never_shows_in_an_error():
    error = exception.BadStoreUri("swift://user:canary@host/c/o", "no container")
    assert "canary" not in str(error) + repr(error)


# -- version 2 -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accept", "is_json"),
    [
        ("application/json", True),
        ("application/json, text/plain;q=0.5", True),
        ("text/html, APPLICATION/JSON; q=0.1", True),
        ("application/json;q=0", False),
        ("*/*", False),
        ("application/*", False),
        ("", False),
        (None, False),
        ("application/octet-stream", False),
    ],
)
def test_version_2_writes_errors_as_json_for_those_who_name_it(accept, is_json):
    environ = {httperror.JSON_ERRORS: True}
    if accept is not None:
        environ["HTTP_ACCEPT"] = accept
    error = exception.NotFound('no "x" \ud800 here')
    line, headers, body = httperror.render(error, environ)
    assert line == "404 Not Found"
    assert dict(headers)["Content-Length"] == str(len(body))
    if not is_json:
        assert dict(headers)["Content-Type"] == "text/plain; charset=UTF-8"
        assert body.startswith(b"404 Not Found\n\n")
        return
    assert dict(headers)["Content-Type"] == "application/json"
    found = json.loads(body)["error"]
    assert found == {"code": 404, "title": "Not Found", "message": 'no "x" \ud800 here'}


@pytest.mark.parametrize(
    ("accept", "agent", "is_json"),
    [
        ("*/*", "openstacksdk/4.22.0 keystoneauth1/5.18.1", True),
        ("", "openstackclient/10.5 openstacksdk/4.22.0", True),
        (None, "openstacksdk/4.22.0", True),
        ("text/plain", "openstacksdk/4.22.0", False),
        ("application/json;q=0, */*", "openstacksdk/4.22.0", False),
        ("*/*", "python-glanceclient", False),
    ],
)
def test_openstacksdk_gets_json_whatever_it_accepts(accept, agent, is_json):
    environ = {httperror.JSON_ERRORS: True, "HTTP_USER_AGENT": agent}
    if accept is not None:
        environ["HTTP_ACCEPT"] = accept
    _, headers, _ = httperror.render(exception.NotFound("x"), environ)
    assert (dict(headers)["Content-Type"] == "application/json") is is_json
    del environ[httperror.JSON_ERRORS]
    _, headers, _ = httperror.render(exception.NotFound("x"), environ)
    assert dict(headers)["Content-Type"] == "text/plain; charset=UTF-8"


def test_version_1_writes_no_json_errors():
    _, headers, _ = httperror.render(exception.NotFound("x"), {"HTTP_ACCEPT": "application/json"})
    assert dict(headers)["Content-Type"] == "text/plain; charset=UTF-8"


def test_a_refused_patch_names_the_media_types_that_would_do():
    error = exception.UnsupportedMediaType("x", ("application/a", "application/b"))
    line, headers, _ = httperror.render(error, {})
    assert line == "415 Unsupported Media Type"
    assert dict(headers)["Accept-Patch"] == "application/a, application/b"
    assert "Accept-Patch" not in dict(httperror.render(exception.UnsupportedMediaType("x"), {})[1])
