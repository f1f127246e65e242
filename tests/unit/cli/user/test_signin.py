"""What options and variables of all generations say about server and sign-in."""

import pytest

from glance.cli.user import command, signin
from glance.common import exception

URL = "http://127.0.0.1:5000/v3"
DIABLO = {"OS_AUTH_USER": "joe", "OS_AUTH_KEY": "s3cret", "OS_AUTH_TENANT": "acme"}
LATER = {"OS_USERNAME": "joe", "OS_PASSWORD": "s3cret", "OS_TENANT_NAME": "acme"}


def client(*args, **env):
    options, _ = command.make_parser(env).parse_args(["index", *args])
    return signin.make_client(options, env)


def creds(*args, **env):
    return {name: value for name, value in client(*args, **env).creds.items() if value}


@pytest.mark.parametrize(
    ("env", "strategy"),
    [
        ({}, "noauth"),
        # Diablo's variables did nothing without the last one.
        ({**DIABLO, "OS_AUTH_URL": URL}, "noauth"),
        ({**DIABLO, "OS_AUTH_URL": URL, "OS_AUTH_STRATEGY": "keystone"}, "keystone"),
        ({**LATER, "OS_AUTH_URL": URL}, "keystone"),
        ({**LATER, "OS_AUTH_URL": URL, "OS_AUTH_STRATEGY": "noauth"}, "noauth"),
        ({"OS_USER_ID": "u", "OS_PASSWORD": "p", "OS_AUTH_URL": URL}, "keystone"),
        ({"OS_TOKEN": "t", "OS_AUTH_URL": URL}, "keystone"),
        ({"OS_TOKEN": "t"}, "noauth"),
        (
            {
                "OS_APPLICATION_CREDENTIAL_ID": "a",
                "OS_APPLICATION_CREDENTIAL_SECRET": "b",
                "OS_AUTH_URL": URL,
            },
            "keystone",
        ),
        ({"OS_CLOUD": "acme"}, "keystone"),
    ],
)
def test_whether_to_sign_in(env, strategy):
    assert client(**env).creds["strategy"] == strategy


@pytest.mark.parametrize(
    ("env", "lacks"),
    [
        ({"OS_USERNAME": "joe", "OS_AUTH_URL": URL}, ["password"]),
        ({"OS_USER_ID": "u", "OS_AUTH_URL": URL}, ["password"]),
        ({"OS_PASSWORD": "p", "OS_AUTH_URL": URL}, ["username"]),
        ({"OS_USERNAME": "joe"}, ["password", "auth_url"]),
        (LATER, ["auth_url"]),
        ({"OS_AUTH_STRATEGY": "keystone"}, ["username", "password", "auth_url"]),
        ({**DIABLO, "OS_AUTH_STRATEGY": "keystone"}, ["auth_url"]),
        ({"OS_TOKEN": "t", "OS_AUTH_STRATEGY": "keystone"}, ["auth_url"]),
        ({"OS_APPLICATION_CREDENTIAL_SECRET": "s"}, ["auth_url"]),
        # Nothing is lacking.
        ({}, []),
        ({"OS_AUTH_URL": URL}, []),
        (DIABLO, []),
        ({"OS_AUTH_USER": "joe"}, []),
        ({**LATER, "OS_AUTH_URL": URL}, []),
        ({"OS_USERNAME": "joe", "OS_AUTH_TOKEN": "t"}, []),
        ({"OS_USERNAME": "joe", "OS_TOKEN": "t"}, []),
        ({"OS_USERNAME": "joe", "OS_AUTH_STRATEGY": "noauth"}, []),
        ({"OS_USERNAME": "joe", "OS_CLOUD": "acme"}, []),
    ],
)
def test_what_is_lacking_to_sign_in(env, lacks):
    options, _ = command.make_parser(env).parse_args(["index"])
    assert signin.lacking(options, env) == lacks
    if lacks:
        with pytest.raises(exception.MissingArgumentError, match=f"^'{lacks[0]}' must be"):
            signin.make_client(options, env)
    else:
        signin.make_client(options, env)


COMMANDS = {
    ("index",): "Failed to show index. Got error:",
    ("add", "name=x"): "Failed to add image. Got error:",
    ("update", "1", "a=b"): "Failed to update image. Got error:",
    ("show", "1"): "Failed to show image. Got error:",
    ("member-add", "1", "t"): "Failed to add image member. Got error:",
    ("delete", "-f", "1"): "Failed to delete image. Got error:",
}


@pytest.mark.parametrize("args", COMMANDS, ids=[args[0] for args in COMMANDS])
def test_what_is_lacking_is_named_before_anything_is_sent(glance, api, args):
    done = glance(*args, env={"OS_USERNAME": "joe", "OS_AUTH_URL": "http://127.0.0.1:1/"})
    assert (done.code, done.lines) == (1, [COMMANDS[args], "'password' must be included in creds"])
    assert done.err == (
        "glance: set OS_PASSWORD (or OS_AUTH_KEY); OS_AUTH_STRATEGY=noauth is for a server "
        "without authentication\n"
    )
    assert not api.server.requests


def test_what_is_lacking_is_one_line_for_newer_commands(glance, api):
    done = glance("download", "1", env={"OS_AUTH_STRATEGY": "keystone"})
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert "OS_USERNAME (or OS_AUTH_USER) and OS_PASSWORD (or OS_AUTH_KEY)" in done.err
    assert not api.server.requests


# -- a refusal -----------------------------------------------------------------------------------

SECRET = "s3cret"


@pytest.fixture
def refusing(loopback):
    return loopback.answering(lambda seen: (401, b"401 Unauthorized\n\nNo.\n"))


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize(
    ("args", "env", "told"),
    [
        ((), {}, "no token was sent: set OS_USERNAME, OS_PASSWORD, OS_PROJECT_NAME and OS_AUTH_"),
        (("-A", SECRET), {}, "the token of --auth-token was sent"),
        ((), {"OS_AUTH_TOKEN": SECRET}, "the token of OS_AUTH_TOKEN was sent"),
        ((), {"OS_TOKEN": SECRET}, "the token of OS_TOKEN was sent"),
        (
            (),
            {"OS_AUTH_USER": "joe", "OS_AUTH_KEY": SECRET},
            "no token was sent: OS_AUTH_USER and OS_AUTH_KEY count only with OS_AUTH_STRATEGY=key",
        ),
    ],
    ids=["nothing", "option", "variable", "newer-variable", "diablo"],
)
def test_a_refusal_says_what_was_used(glance, loopback, args, env, told, status):
    server = loopback.answering(lambda seen: (status, b"no"))
    done = glance("index", *args, env=env, port=server.port)
    assert (done.code, done.out.count("\n")) == (1, 1)
    assert done.out.startswith("Not authorized to make this request. Check your credentials")
    assert done.err.startswith(f"glance: {told}")
    assert done.err.endswith("; this user may not do this\n") == (status == 403)
    assert (done.err.count("\n"), SECRET in done.out + done.err) == (1, False)


@pytest.mark.parametrize(
    "args", [*COMMANDS, ("details",), ("image-members", "1"), ("download", "1"), ("cache-index",)]
)
def test_every_command_says_it(glance, refusing, args):
    done = glance(*args, env={"OS_AUTH_TOKEN": SECRET}, port=refusing.port)
    assert done.code == 1
    assert "the token of OS_AUTH_TOKEN was sent" in done.err.splitlines()[-1]
    assert (done.err.count("\n"), SECRET in done.out + done.err) == (1, False)


def test_a_password_that_the_identity_service_refuses(glance, api, refusing):
    env = {
        **dict(LATER, OS_PASSWORD=SECRET),
        "OS_AUTH_URL": f"http://127.0.0.1:{refusing.port}/v2.0",
    }
    done = glance("index", env=env)
    given = "OS_USERNAME, OS_PASSWORD, OS_TENANT_NAME, OS_AUTH_URL"
    assert done.err == f"glance: the identity service refused a password: check {given}\n"
    assert SECRET not in done.out + done.err


def test_a_token_of_a_password_that_the_image_service_refuses(glance, loopback, refusing):
    url = f"http://127.0.0.1:{refusing.port}/v1"
    answer = (204, b"", {"X-Auth-Token": "tok", "X-Server-Management-Url": url})
    identity = loopback.answering(lambda seen: answer)
    env = {**LATER, "OS_AUTH_URL": f"http://127.0.0.1:{identity.port}/v1.0"}
    done = glance("index", env=env, port=refusing.port)
    given = "OS_USERNAME, OS_PASSWORD, OS_TENANT_NAME, OS_AUTH_URL"
    assert done.err == (
        f"glance: signed in with a password ({given}), but the image service refused the token\n"
    )


def test_options_say_it_as_variables_do():
    args = ("--os-username=joe", "--os-password=p", f"--os-auth-url={URL}", "--os-project-name=a")
    assert creds(*args) == {
        "strategy": "keystone",
        "username": "joe",
        "password": "p",
        "auth_url": URL,
        "tenant": "a",
    }
    assert creds("--os-auth-user=joe", "--os-auth-key=p", f"--os-auth-url={URL}") == {
        "strategy": "keystone",
        "username": "joe",
        "password": "p",
        "auth_url": URL,
    }


@pytest.mark.parametrize(
    ("variable", "name"),
    [
        ("OS_PROJECT_NAME", "tenant"),
        ("OS_TENANT_NAME", "tenant"),
        ("OS_PROJECT_ID", "project_id"),
        ("OS_TENANT_ID", "project_id"),
        ("OS_USER_DOMAIN_NAME", "user_domain_name"),
        ("OS_USER_DOMAIN_ID", "user_domain_id"),
        ("OS_PROJECT_DOMAIN_NAME", "project_domain_name"),
        ("OS_PROJECT_DOMAIN_ID", "project_domain_id"),
        ("OS_DEFAULT_DOMAIN", "default_domain_id"),
        ("OS_DEFAULT_DOMAIN_NAME", "default_domain_name"),
        ("OS_SYSTEM_SCOPE", "system_scope"),
        ("OS_DOMAIN_ID", "domain_id"),
        ("OS_DOMAIN_NAME", "domain_name"),
        ("OS_TRUST_ID", "trust_id"),
        ("OS_REGION_NAME", "region"),
        ("OS_INTERFACE", "interface"),
        ("OS_ENDPOINT_TYPE", "interface"),
        ("OS_AUTH_TYPE", "auth_type"),
        ("OS_IDENTITY_API_VERSION", "identity_api_version"),
    ],
)
def test_every_variable_has_its_place(variable, name):
    assert creds(**{variable: "value"}) == {"strategy": "noauth", name: "value"}


def test_diablos_variables_win_over_later_ones():
    assert creds(**{**LATER, **DIABLO, "OS_USERNAME": "other"})["username"] == "joe"


@pytest.mark.parametrize("variable", [{"OS_AUTH_TOKEN": "t"}, {}])
def test_a_token_that_is_given_is_the_only_one_used(loopback, variable):
    server = loopback.answering(lambda seen: (401, b""))
    identity = loopback.answering(lambda seen: (204, b"", {"X-Auth-Token": "new"}))
    env = {
        "OS_AUTH_STRATEGY": "keystone",
        "OS_USERNAME": "joe",
        "OS_PASSWORD": "p",
        "OS_AUTH_URL": f"http://127.0.0.1:{identity.port}/",
        **variable,
    }
    args = ("--host=127.0.0.1", f"--port={server.port}", *([] if variable else ["-A", "t"]))
    with pytest.raises(exception.NotAuthorized):
        client(*args, **env).get_images()
    assert [seen.headers["x-auth-token"] for seen in server.requests] == ["t"]
    assert not identity.requests


@pytest.mark.parametrize(
    ("args", "env", "token"),
    [
        ((), {"OS_TOKEN": "t"}, "t"),
        (("-A", "a"), {"OS_TOKEN": "t"}, "a"),
        ((), {"OS_TOKEN": "t", "OS_AUTH_TOKEN": "a"}, "a"),
        # One that is to be exchanged is not sent.
        ((), {"OS_TOKEN": "t", "OS_AUTH_URL": URL}, None),
    ],
)
def test_a_token_without_an_identity_service_is_sent_as_it_is(args, env, token):
    assert client(*args, **env).auth_tok == token


@pytest.mark.parametrize(
    ("args", "env", "follows"),
    [
        ((), {}, True),
        (("-H", "10.0.0.1"), {}, False),
        (("-p", "19292"), {}, False),
        ((), {"OS_IMAGE_URL": "http://g"}, False),
    ],
)
def test_an_address_that_is_given_wins_over_the_catalogue(args, env, follows):
    assert client(*args, **env).configure_via_auth == follows


@pytest.mark.parametrize("variable", ["OS_IMAGE_URL", "OS_IMAGE_ENDPOINT_OVERRIDE"])
@pytest.mark.parametrize("url", ["https://g/image", "https://g/image/v2/", "https://g/image/v1"])
def test_the_service_can_be_named_by_its_url(variable, url):
    made = client(**{variable: url})
    assert (made.host, made.port, made.use_ssl, made.doc_root) == ("g", 443, True, "/image/v1")


def test_certificates_have_variables_too():
    made = client(OS_CACERT="/ca", OS_CERT="/cert", OS_KEY="/key")._tls
    assert (made.ca_file, made.cert_file, made.key_file) == ("/ca", "/cert", "/key")


def test_a_cloud_wins_over_variables_but_not_over_options():
    env = {**LATER, "OS_CLOUD": "acme", "OS_REGION_NAME": "here"}
    assert creds(**env) == {"strategy": "keystone", "cloud": "acme"}
    said = creds("--os-username=ann", "--os-region-name=there", **env)
    assert said == {
        "strategy": "keystone",
        "cloud": "acme",
        "username": "ann",
        "region": "there",
    }


# -- the address of the server -------------------------------------------------------------------

PLACE = {"GLANCE_HOST": "images.example.com", "GLANCE_PORT": "9393"}


@pytest.mark.parametrize(
    ("args", "env", "place"),
    [
        ((), {}, ("0.0.0.0", 9292)),
        ((), PLACE, ("images.example.com", 9393)),
        ((), {"GLANCE_HOST": "", "GLANCE_PORT": ""}, ("0.0.0.0", 9292)),
        ((), {"GLANCE_HOST": "[::1]"}, ("::1", 9292)),
        (("--host=other",), PLACE, ("other", 9393)),
        (("-p", "1"), PLACE, ("images.example.com", 1)),
        ((), {**PLACE, "OS_IMAGE_URL": "http://url.example.com:80"}, ("url.example.com", 80)),
        (("--os-image-url=http://url.example.com",), PLACE, ("url.example.com", 80)),
    ],
)
def test_address_of_the_server(args, env, place):
    found = client(*args, **env)
    assert (found.host, found.port) == place


def test_an_address_in_variables_wins_over_the_catalog():
    assert client().configure_via_auth
    assert not client(**PLACE).configure_via_auth


def test_a_port_that_is_no_number_is_one_error(capsys, monkeypatch):
    monkeypatch.setenv("GLANCE_PORT", "x")
    assert command.main(["index"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "glance: error: option -p/--port: invalid integer value: 'x', in a variable of the "
        "environment"
    )


def test_an_option_wins_over_a_variable_that_is_wrong():
    assert client("--port=1", GLANCE_PORT="x").port == 1
