"""From identity headers to a context."""

import pytest
import webob

from glance.common import config, exception
from glance.identity import context


def ask(headers=None, **conf):
    """Return (status, context) for a request with `headers`."""
    seen = []

    def app(environ, start_response):
        seen.append(environ["glance.context"])
        start_response("200 OK", [])
        return []

    stage = context.ContextMiddleware(app, config.Conf(conf))
    response = webob.Request.blank("/", headers=headers or {}).get_response(stage)
    return response.status_int, seen[0] if seen else None


CONFIRMED = {"X-Auth-Token": "t", "X-Identity-Status": "Confirmed"}


def test_without_authentication_everybody_is_an_ownerless_admin():
    status, ctx = ask({"X-Tenant-Id": "evil", "X-Roles": "none"})
    assert status == 200
    assert ctx.is_admin
    assert ctx.owner is None
    assert not ctx.read_only


@pytest.mark.parametrize("mode", ["keystone", "trusted-headers"])
@pytest.mark.parametrize("status", [None, "Invalid", "confirmed", ""])
def test_unconfirmed_requests_are_refused(mode, status):
    headers = {"X-Auth-Token": "t", "X-Roles": "admin"}
    if status is not None:
        headers["X-Identity-Status"] = status
    assert ask(headers, auth_mode=mode)[0] == 401


def test_unconfirmed_requests_may_read_where_anonymous_access_is_allowed():
    status, ctx = ask({"X-Roles": "admin"}, auth_mode="keystone", allow_anonymous_access="true")
    assert status == 200
    assert (ctx.is_admin, ctx.read_only, ctx.owner) == (False, True, None)


@pytest.mark.parametrize(
    ("headers", "tenant", "user"),
    [
        ({"X-Tenant": "t1", "X-User": "u1"}, "t1", "u1"),
        ({"X-Tenant-Id": "t2", "X-Tenant": "t1", "X-User-Id": "u2", "X-User": "u"}, "t2", "u2"),
        ({"X-Project-Id": "t3", "X-Tenant": "t1", "X-User": "u1"}, "t3", "u1"),
        ({"X-Tenant-Id": "", "X-Tenant": "t1", "X-User": "u1"}, "t1", "u1"),
    ],
)
def test_the_first_header_present_wins(headers, tenant, user):
    ctx = ask({**CONFIRMED, **headers}, auth_mode="keystone")[1]
    assert (ctx.tenant, ctx.user, ctx.owner) == (tenant, user, tenant)


@pytest.mark.parametrize(
    ("headers", "is_admin"),
    [
        ({"X-Roles": "member, Admin"}, True),
        ({"X-Role": "ADMIN"}, True),
        ({"X-Roles": "member", "X-Role": "admin"}, False),
        ({"X-Roles": "administrator"}, False),
        ({}, False),
    ],
)
def test_the_admin_role_counts_without_regard_to_case(headers, is_admin):
    ctx = ask({**CONFIRMED, "X-Tenant": "t", **headers}, auth_mode="keystone")[1]
    assert ctx.is_admin is is_admin


@pytest.mark.parametrize(
    ("roles", "is_admin"), [("Cloud-Admin", True), ("admin", False), ("cloud-admin2", False)]
)
def test_another_role_can_make_administrators(roles, is_admin):
    options = {"auth_mode": "keystone", "admin_role": "cloud-admin"}
    assert ask({**CONFIRMED, "X-Tenant": "t", "X-Roles": roles}, **options)[1].is_admin is is_admin


def test_images_belong_to_the_user_where_configured():
    ctx = ask(
        {**CONFIRMED, "X-Tenant": "t", "X-User": "u"},
        auth_mode="keystone",
        owner_is_tenant="false",
    )[1]
    assert ctx.owner == "u"


def test_the_token_is_not_in_the_text_form():
    assert "secret" not in repr(context.RequestContext(auth_tok="secret"))


def test_an_unknown_context_class_is_a_configuration_error():
    with pytest.raises(exception.ConfigError):
        context.load_class("glance.nowhere.Context")


def test_what_a_request_says_of_its_caller_is_taken_out_but_the_token():
    seen = {}

    def app(environ, start_response):
        seen.update(environ)
        return []

    forged = dict.fromkeys(context.IDENTITY_HEADERS, "forged")
    kept = {"HTTP_X_AUTH_TOKEN": "t", "HTTP_X_STORAGE_TOKEN": "t", "HTTP_X_SERVICE_TOKEN": "t"}
    context.IdentityGuard(app)({**forged, **kept}, None)
    assert seen == kept
