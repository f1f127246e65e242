"""The program as a whole: usage, options, credentials, exit codes, prompts."""

import io
import subprocess
import sys

import pytest

from glance import version
from glance.cli.user import command, commands
from glance.cli.user.screen import console


@pytest.fixture
def bare(capsys):
    def run(*args):
        code = command.main(list(args))
        return code, *capsys.readouterr()

    return run


@pytest.mark.parametrize("args", [(), ("-h",), ("--help",)])
def test_help_is_usage_and_options(bare, args):
    code, out, err = bare(*args)
    assert (code, err) == (0, "")
    assert out.startswith("Usage: glance <command> [options] [args]\n\nCommands:\n")
    assert "--auth_token=TOKEN" in out


def test_options_without_a_command_give_the_usage_alone(bare):
    code, out, err = bare("-v")
    assert (code, err) == (0, "")
    assert out.startswith("Usage: glance <command> [options] [args]\n")
    assert "--auth_token" not in out


def test_usage_lists_the_commands_in_order(bare):
    _, out, _ = bare("-v")
    names = [line.split()[0] for line in out.splitlines() if line.startswith("    ")]
    assert names[:8] == ["help", "add", "update", "delete", "index", "details", "show", "clear"]
    cache = "index invalid incomplete prefetching prefetch purge clear reap-invalid reap-stalled"
    assert [name.removeprefix("cache-") for name in names[8:17]] == cache.split()
    members = "image-members member-images member-add member-delete members-replace"
    assert names[17:22] == members.split()
    assert names[22:26] == ["convert", "conversions", "conversion-show", "conversion-cancel"]
    assert names[26:] == ["completion", "upload", "restore", "download"]


def test_version(bare):
    assert bare("--version") == (0, f"glance {version.version_string()}\n", "")


def test_unknown_command(bare):
    code, out, err = bare("foo")
    assert (code, err) == (1, "Unknown command: foo\n")
    assert out.startswith("Usage: glance <command>")


@pytest.mark.parametrize("args", [("idnex",), ("help", "inde"), ("indexx", "name=a")])
def test_a_misspelt_command_is_suggested_in_the_last_line(bare, args):
    code, _, err = bare(*args)
    assert (code, err.splitlines()[-1]) == (1, "Did you mean glance index?")


@pytest.mark.parametrize(
    ("word", "meant"), [("rm", "delete"), ("image-list", "index"), ("Create", "add")]
)
def test_a_word_of_other_programs_is_understood_as_a_suggestion(bare, word, meant):
    code, _, err = bare(word, "5")
    assert (code, err) == (1, f"Unknown command: {word}\nDid you mean glance {meant}?\n")


def test_suggestions_name_commands():
    assert set(command.ELSEWHERE.values()) <= set(commands.COMMANDS)
    assert not set(command.ELSEWHERE) & {*commands.COMMANDS, *commands.ALIASES}


def test_the_suggestion_is_last_where_both_streams_are_one_file():
    code = "import sys; from glance.cli.user import command; sys.exit(command.main(['indxe']))"
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert done.stdout.splitlines()[-1] == b"Did you mean glance index?"


@pytest.mark.parametrize("alias", ["list", "ls"])
def test_a_list_has_other_names(glance, bare, api, alias):
    api.add(name="web")
    assert glance(alias, "name=web").out == glance("index", "name=web").out != ""
    assert bare(alias, "--help") == bare("help", alias) == bare("help", "index")
    assert "Other names of this command: list, ls." in bare("help", alias)[1]


def test_each_module_declares_the_commands_that_the_table_says():
    for name, home in commands.HOMES.items():
        entry = commands.COMMANDS[name]
        assert (entry.name, entry.run.__module__) == (name, f"glance.cli.user.{home}")
    assert set(commands.COMMANDS._declared) == set(commands.COMMANDS) == set(commands.HOMES)


@pytest.mark.parametrize("name", commands.COMMANDS)
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_behind_a_command_is_that_of_the_command(bare, api, name, option):
    expected = bare("help", name)
    assert expected[0] == 0
    for args in [(name, option), (option, name), (name, "x=y", option, "-v"), (name, option, "z")]:
        assert bare(*args) == expected


@pytest.mark.parametrize(
    "args", [("--help", "add", "--foo"), ("add", "--foo", "-h"), ("add", "-p", "x", "--help")]
)
def test_help_wins_over_a_mistake(bare, args):
    assert bare(*args) == bare("help", "add")


def test_help_shows_the_options_of_the_command_with_a_word_each(bare):
    lines = bare("index", "--help")[1].splitlines()
    assert "  --deleted                 List deleted images; for administrators only." in lines
    assert not [line for line in lines if line.startswith("  --host")]


def test_help_about_an_unknown_command_in_the_short_form(bare):
    code, out, err = bare("indxe", "--help")
    assert (code, err) == (1, "Unknown command: indxe\nDid you mean glance index?\n")
    assert out.startswith("Usage: ")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("index", "--foo"), "glance: error: no such option: --foo\n"),
        (("index", "-p", "x"), "glance: error: option -p: invalid integer value: 'x'\n"),
        (
            ("index", "-p", "0"),
            "glance: error: option -p/--port: 0 is not a number from 1 to 65535\n",
        ),
        (
            ("index", "-p", "65536"),
            "glance: error: option -p/--port: 65536 is not a number from 1 to 65535\n",
        ),
        (
            ("index", "--timeout=-1"),
            "glance: error: option --timeout: -1.0 is not a number from 0 to 1000000000\n",
        ),
        (
            ("index", "--timeout=nan"),
            "glance: error: option --timeout: nan is not a number from 0 to 1000000000\n",
        ),
        (
            ("index", "--timeout=inf"),
            "glance: error: option --timeout: inf is not a number from 0 to 1000000000\n",
        ),
        (("index", "--limit=x"), "glance: error: option --limit: invalid integer value: 'x'\n"),
    ],
)
def test_option_that_cannot_be_understood(bare, args, message):
    code, out, err = bare(*args)
    assert (code, out) == (2, "")
    assert err.startswith("Usage: glance <command>")
    assert err.endswith(f"\n\n{message}")


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_every_command_has_help(bare, name):
    code, out, _ = bare("help", name)
    entry = commands.COMMANDS[name]
    options = "" if name == "help" else "[options] "
    synopsis = f"glance {name} {options}{entry.arguments}".rstrip()
    assert code == 0
    assert out.startswith(f"\n{synopsis}\n\n{entry.text}")
    assert entry.text


@pytest.mark.parametrize("args", [(), ("add", "update")])
def test_help_takes_one_command(bare, args):
    code, out, err = bare("help", *args)
    assert (code, out, err.splitlines()[0]) == (1, "", "Please specify a command")
    assert err.splitlines()[1].startswith("Commands: help, ")
    assert all(f" {name}" in err for name in ("add", "cache-index", "member-add", "download"))


def test_help_about_an_unknown_command(bare):
    code, _, err = bare("help", "foo")
    assert (code, err) == (1, "Unknown command: foo\n")


def test_help_of_add_names_its_fields_and_the_redirect(bare):
    _, out, _ = bare("help", "add")
    names = "id name size is_public disk_format container_format location property < /"
    assert all(name in out for name in names.split())


def test_help_of_update_warns_of_the_purge(bare):
    assert "properties that are left out of the command are removed" in bare("help", "update")[1]


def test_verbose_tells_the_time_whatever_the_exit_code(glance):
    assert glance("show", "-v", "99").code == 1
    assert glance("help", "-v").out.startswith("Completed in 0.")
    assert glance("index", "-v").lines[-1].endswith(" sec.")


def test_options_and_arguments_mix(glance, api):
    api.add(name="web", status="active")
    assert glance("--verbose", "show", "1").lines[1] == "Id: 1"


# -- credentials ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "env", "token"),
    [
        ((), {}, None),
        (("-A", "tok"), {}, "tok"),
        (("--auth-token=tok",), {"OS_AUTH_TOKEN": "other"}, "tok"),
        ((), {"OS_AUTH_TOKEN": "tok"}, "tok"),
    ],
)
def test_token_comes_from_the_option_or_the_environment(glance, api, args, env, token):
    glance("index", *args, env=env)
    assert api.server.requests[0].headers.get("x-auth-token") == token


@pytest.mark.parametrize(
    "names",
    [
        ("OS_AUTH_USER", "OS_AUTH_KEY", "OS_AUTH_TENANT"),
        ("OS_USERNAME", "OS_PASSWORD", "OS_TENANT_NAME"),
    ],
)
def test_environment_signs_in(glance, api, loopback, names):
    answer = (204, b"", {"X-Auth-Token": "tok", "X-Server-Management-Url": "set below"})
    keystone = loopback.answering(lambda seen: answer)
    answer[2]["X-Server-Management-Url"] = f"http://127.0.0.1:{api.server.port}/v1"
    env = dict(zip(names, ("joe", "s3cret", "acme"), strict=True))
    env.update(OS_AUTH_URL=f"http://127.0.0.1:{keystone.port}/", OS_AUTH_STRATEGY="keystone")
    assert glance("index", env=env).code == 0
    sent = keystone.requests[-1].headers
    assert [sent[f"x-auth-{name}"] for name in ("user", "key", "tenant")] == [
        "joe",
        "s3cret",
        "acme",
    ]
    assert api.server.requests[0].headers["x-auth-token"] == "tok"


def test_unknown_strategy_is_one_line(glance):
    done = glance("index", env={"OS_AUTH_STRATEGY": "foo"})
    assert done.code == 1
    assert done.lines == ["Failed to show index. Got error:", "Unknown auth strategy 'foo'"]


def test_missing_credentials_are_named(glance):
    done = glance("index", env={"OS_AUTH_STRATEGY": "keystone"})
    assert done.lines[1] == "'username' must be included in creds"


# -- the shared error handler --------------------------------------------------------------------

PHRASES = {
    ("index",): ("GET", "/images", "show index"),
    ("details",): ("GET", "/images/detail", "show details"),
    ("delete", "-f", "1"): ("DELETE", "/images/1", "delete image"),
    ("image-members", "1"): ("GET", "/images/1/members", "show image members"),
    ("member-images", "t"): ("GET", "/shared-images/t", "show member images"),
    ("members-replace", "1", "t"): ("PUT", "/images/1/members", "update image members"),
    ("member-add", "1", "t"): ("PUT", "/images/1/members/t", "add image member"),
    ("member-delete", "1", "t"): ("DELETE", "/images/1/members/t", "delete image member"),
}
shared = pytest.mark.parametrize("args", PHRASES, ids=[args[0] for args in PHRASES])


@shared
@pytest.mark.parametrize("status", [401, 403])
def test_refusal_points_to_the_credentials(glance, api, args, status):
    method, path, _ = PHRASES[args]
    api.refuse[method, path] = (status, b"no")
    done = glance(*args)
    assert (done.code, done.out) == (
        1,
        "Not authorized to make this request. "
        "Check your credentials (OS_AUTH_USER, OS_AUTH_KEY, ...).\n",
    )


@shared
def test_failure_is_told_with_status_and_explanation(glance, api, args):
    method, path, phrase = PHRASES[args]
    api.refuse[method, path] = (400, b"400 Bad Request\n\nUse another value.\n")
    done = glance(*args)
    assert done.code == 1
    assert done.lines == [
        f"Failed to {phrase}. Got error:",
        "400 Bad Request",
        "Use another value.",
    ]


@shared
def test_debug_lets_the_exception_through(glance, api, args):
    method, path, _ = PHRASES[args]
    api.refuse[method, path] = (400, b"no")
    with pytest.raises(Exception, match="no"):
        glance(*args, "--debug")


@shared
def test_absent_server_is_told(glance, api, args):
    api.server.stop()
    done = glance(*args)
    assert done.code == 1
    assert done.lines[1].startswith("Unable to connect to server")


def test_escaped_error_has_the_exit_code_of_a_failure(glance, monkeypatch):
    def broken(call):
        raise NotImplementedError("not yet")

    entry = commands.COMMANDS["show"]
    monkeypatch.setitem(commands.COMMANDS, "show", entry._replace(run=broken, failure=None))
    done = glance("show", "1")
    assert (done.code, done.out) == (1, "ERROR:  not yet\n")


# -- small pieces --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "found"),
    [
        (["name=x,", ",a=b"], {"name": "x", "a": "b"}),
        (["Is-Public=ON"], {"is_public": "ON"}),
        (["a=b=c"], {"a": "b=c"}),
        (["owner="], {"owner": ""}),
        (["a=1", "A=2"], {"a": "2"}),
        ([], {}),
    ],
)
def test_fields(args, found):
    assert console.fields(args) == found


@pytest.mark.parametrize("argument", ["name", "=x", ""])
def test_argument_that_is_no_field(argument):
    with pytest.raises(console.CommandRefused) as caught:
        console.fields([argument])
    assert str(caught.value) == (
        f"Arguments should be in the form of field=value. You specified {argument}."
    )


@pytest.mark.parametrize("default", [True, False])
@pytest.mark.parametrize(
    ("typed", "answer"),
    [("y\n", True), ("YES\n", True), ("n\n", False), ("x\n", False), ("\n", None), ("", False)],
)
def test_answers_to_a_question(monkeypatch, capsys, typed, answer, default):
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
    assert console.ask("Sure? ", default=default) is (default if answer is None else answer)
    assert capsys.readouterr().out.startswith("Sure? ")


def test_control_characters_do_not_reach_the_terminal():
    assert console.printable("a\x1b[2Jb\nc\x9bd é") == "a?[2Jb?c?d é"


HOMES = set(commands.HOMES.values())
SERVER = {"webob", "eventlet", "sqlalchemy", "paste", "routes", "kombu", "boto", "swiftclient"}
SIGN_IN = {"keystoneauth1", "openstack", "requests", "urllib3"}


def imported_by(*args):
    """Return exit code and new modules of a process that ran the program with `args`."""
    code = (
        "import sys; had = set(sys.modules); from glance.cli.user import command;"
        "code = command.main(sys.argv[1:]);"
        "print('modules:', code, *sorted(set(sys.modules) - had))"
    )
    command_line = [sys.executable, "-I", "-c", code, *args]
    done = subprocess.run(command_line, capture_output=True, text=True, check=True)
    code, *modules = done.stdout.splitlines()[-1].removeprefix("modules: ").split()
    return int(code), set(modules)


def test_version_loads_neither_server_nor_client():
    code, modules = imported_by("--version")
    assert code == 0
    assert not (SERVER | SIGN_IN) & {name.partition(".")[0] for name in modules}
    # What costs milliseconds and is for requests only.
    assert not {"glance.client", "ssl", "socket", "hashlib", "inspect", "json"} & modules
    assert {name for name in modules if name.startswith("glance.common")} <= {
        "glance.common",
        "glance.common.exception",
    }


def test_index_loads_nothing_of_the_server(api):
    api.add(name="web")
    code, modules = imported_by("index", "-H", "127.0.0.1", "-p", str(api.server.port))
    assert code == 0
    assert not (SERVER | SIGN_IN) & {name.partition(".")[0] for name in modules}
    ours = {name for name in modules if name.startswith("glance.")}
    allowed = ("client", "version", "cli", "common", "http", "identity", "image")
    assert {name.split(".")[1] for name in ours} <= set(allowed)
    assert not {"glance.http.wsgi", "glance.http.server", "glance.common.config"} & ours
    # Of the commands, this one's module and what it shares with others.
    commands_loaded = {name for name in ours if name.removeprefix("glance.cli.user.") in HOMES}
    assert commands_loaded == {"glance.cli.user.command", "glance.cli.user.listing"}
    unused = {"asyncio", "dataclasses", "hashlib", "html", "inspect", "logging", "ssl"}
    assert not unused & modules
    # http.client would bring the e-mail package along.
    assert not {"http.client", "email", "urllib.request"} & modules


def test_reader_that_leaves_early_causes_no_traceback(api):
    for number in range(3):
        api.add(name=f"image {number}")
    code = "import sys; from glance.cli.user import command; sys.exit(command.main(sys.argv[1:]))"
    args = ["details", "-f", "-H", "127.0.0.1", "-p", str(api.server.port)]
    process = subprocess.Popen(
        [sys.executable, "-I", "-c", code, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 1
