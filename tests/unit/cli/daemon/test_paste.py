"""Configuration files: found, read, and turned into settings and applications."""

import os

import pytest

from glance.api import versions
from glance.cli.daemon import paste
from glance.common import (
    exception,
    log,  # noqa: F401  declares the options of every daemon
)
from glance.identity import context
from glance.registry import server  # noqa: F401  declares the options of the registry

REGISTRY = """
[DEFAULT]
sql_connection = sqlite:///%(here)s/registry.sqlite
{options}

[pipeline:glance-registry]
pipeline = {pipeline}

[app:registryapp]
paste.app_factory = glance.registry.server:app_factory
{section}

[filter:context]
paste.filter_factory = glance.common.context:filter_factory
{context}

[filter:authtoken]
paste.filter_factory = {token}:filter_factory

[filter:odd]
paste.filter_factory = {token}_of_another_kind:filter_factory
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home and a working directory without any configuration file."""
    (tmp_path / "home" / ".glance").mkdir(parents=True)
    (tmp_path / "cwd").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "cwd")
    monkeypatch.setattr(paste, "SEARCH_PATH", (".", "~/.glance", "~"))
    return tmp_path


def write(tmp_path, **values):
    path = tmp_path / "glance-registry.conf"
    defaults = {
        "options": "",
        "section": "",
        "context": "",
        "pipeline": "context registryapp",
        "token": "keystonemiddleware.auth_token",
    }
    path.write_text(REGISTRY.format(**{**defaults, **values}))
    return str(path)


# -- finding --------------------------------------------------------------------------------------


def test_the_search_takes_the_first_directory_that_has_the_file(home):
    for directory in ("home", "home/.glance", "cwd"):
        path = home / directory / "glance-api.conf"
        path.write_text("")
        assert paste.find_config_file("glance-api") == str(path)


def test_nothing_found_gives_the_manuals_words(home):
    with pytest.raises(exception.ConfigError) as caught:
        paste.find_config_file("glance-api")
    assert str(caught.value) == (
        "Unable to locate any configuration file. Cannot load application glance-api"
    )


@pytest.mark.parametrize("how", ["option", "argument"])
def test_a_named_file_that_is_missing_is_never_replaced_by_another(home, how):
    (home / "cwd" / "glance-api.conf").write_text("")
    with pytest.raises(exception.ConfigError) as caught:
        paste.find_config_file("glance-api", **{how: "typo.conf"})
    first, second = str(caught.value).splitlines()
    assert first.startswith("Unable to locate any configuration file")
    assert str(home / "cwd" / "typo.conf") in second


def test_a_directory_stands_for_the_programs_file_in_it(home):
    path = home / "home" / "glance-api.conf"
    path.write_text("")
    assert paste.find_config_file("glance-api", argument="~") == str(path)
    with pytest.raises(exception.ConfigError):
        paste.find_config_file("glance-registry", argument="~")


def test_the_option_wins_over_the_argument(home):
    path = home / "cwd" / "a.conf"
    path.write_text("")
    assert paste.find_config_file("glance-api", "a.conf", "b.conf") == str(path)


# -- reading --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["no section", "[DEFAULT]\nbroken", "[DEFAULT]\n\xff", "[pipeline:x]\npipeline = y"]
)
def test_a_file_that_cannot_be_used_is_one_message(tmp_path, text):
    path = tmp_path / "bad.conf"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(exception.ConfigError) as caught:
        paste.load_conf("glance-registry", str(path))
    assert str(caught.value).startswith(f"Error trying to load config {path}: ")
    assert "\n" not in str(caught.value)


def test_comments_of_python_2_are_cut_in_all_sections(tmp_path):
    path = write(
        tmp_path,
        options="rem verbose = True\nverbose = False ; quiet",
        pipeline="context registryapp ; no token",
        section="limit_param_default = 7 ; few",
        context="context_class = glance.registry.context.RequestContext ; the registry's",
    )
    text = (tmp_path / "glance-registry.conf").read_text()
    (tmp_path / "glance-registry.conf").write_text(
        text.replace("registry.sqlite\n", "registry.sqlite ; production\n"), encoding="utf-8-sig"
    )
    conf = paste.load_conf("glance-registry", path)
    assert conf["sql_connection"] == f"sqlite:///{tmp_path}/registry.sqlite"
    assert conf["verbose"] is False
    assert paste.load_shared_conf(path)["sql_connection"] == conf["sql_connection"]
    first, last = paste.load_sections("glance-registry", path)
    assert first.own["context_class"] == "glance.registry.context.RequestContext"
    assert last.own["limit_param_default"] == "7"
    paste.load_paste_app("glance-registry", path)
    assert not (tmp_path / "registry.sqlite ; production").exists()


def test_another_file_that_a_section_names_has_the_same_syntax(tmp_path):
    (tmp_path / "other file.conf").write_text(
        "\ufeff[app:main]\npaste.app_factory = glance.api.versions:app_factory ; versions\n"
        "rem nothing\n[app:second]\nuse = main ; again\nmaximum = 7 ; seven\n",
        encoding="utf-8",
    )
    path = tmp_path / "glance-api.conf"
    for reference in ("config:other%20file.conf", "config:other%20file.conf#second ; there"):
        path.write_text(f"[DEFAULT]\nverbose = yes ; c\n[app:glance-api]\nuse = {reference}\n")
        app = paste.load_shared_app("glance-api", str(path), dict)
        assert isinstance(app, versions.Versions)


def test_percent_signs_do_not_break_the_file(tmp_path):
    path = write(tmp_path, options="log_format = %(asctime)s %(message)s\nlog_date_format = %Y")
    conf = paste.load_conf("glance-registry", path)
    assert conf["log_format"] == "%(asctime)s %(message)s"
    assert conf["log_date_format"] == "%Y"
    assert conf["sql_connection"] == f"sqlite:///{tmp_path}/registry.sqlite"


def test_a_sections_own_key_wins_for_that_component(tmp_path):
    path = write(tmp_path, options="api_limit_max = 5", section="api_limit_max = 7")
    assert paste.load_conf("glance-registry", path).api_limit_max == 5
    app = paste.load_paste_app("glance-registry", path)[1].app
    image_list = app.router._tables["/images"]["GET"].__self__
    assert image_list.max_limit == 7


@pytest.mark.parametrize(
    ("pipeline", "token", "mode"),
    [
        ("context registryapp", "keystonemiddleware.auth_token", "noauth"),
        ("authtoken context registryapp", "keystonemiddleware.auth_token", "keystone"),
        ("authtoken context registryapp", "keystone.middleware.auth_token", "keystone"),
        ("context authtoken registryapp", "keystone.middleware.auth_token", "noauth"),
        ("odd context registryapp", "acme.middleware", "keystone"),
        ("odd context registryapp", "oslo_middleware.cors", "noauth"),
        ("odd context registryapp", "oslo_middleware.basic_auth", "keystone"),
        ("registryapp", "keystonemiddleware.auth_token", "noauth"),
    ],
)
def test_a_token_filter_before_the_context_means_authentication(tmp_path, pipeline, token, mode):
    path = write(tmp_path, pipeline=pipeline, token=token)
    assert paste.load_conf("glance-registry", path).auth_mode == mode


def test_an_application_that_is_no_plain_pipeline_must_set_its_mode(tmp_path):
    path = tmp_path / "composite.conf"
    path.write_text("[composite:glance-api]\nuse = egg:Paste#urlmap\n/ = versions\n")
    with pytest.raises(exception.ConfigError, match="Set auth_mode"):
        paste.load_conf("glance-api", str(path))
    path.write_text("[DEFAULT]\nauth_mode = noauth\n" + path.read_text())
    assert paste.load_conf("glance-api", str(path)).auth_mode == "noauth"


def test_an_explicit_mode_wins(tmp_path):
    path = write(tmp_path, options="auth_mode = trusted-headers")
    assert paste.load_conf("glance-registry", path).auth_mode == "trusted-headers"


@pytest.mark.parametrize(
    ("pipeline", "mode", "hint"),
    [
        ("authtoken context registryapp", "noauth", "has a token filter"),
        ("context registryapp", "keystone", "trusted-headers"),
        ("context authtoken registryapp", "keystone", "trusted-headers"),
    ],
)
@pytest.mark.parametrize("where", ["options", "context"])
def test_a_mode_that_contradicts_the_pipeline_is_refused(tmp_path, pipeline, mode, hint, where):
    path = write(
        tmp_path,
        pipeline=pipeline,
        token="keystonemiddleware.auth_token",
        **{where: f"auth_mode = {mode}"},
    )
    with pytest.raises(exception.ConfigError, match=hint):
        paste.load_conf("glance-registry", path)


def test_the_mode_of_the_context_stage_wins(tmp_path):
    path = write(tmp_path, options="auth_mode = noauth", context="auth_mode = trusted-headers")
    assert paste.load_conf("glance-registry", path).auth_mode == "trusted-headers"


# -- loading --------------------------------------------------------------------------------------


def test_the_inferred_mode_reaches_the_context_stage(tmp_path):
    section = paste.load_paste_app("glance-registry", write(tmp_path))[1]
    assert section.make == section._noauth


@pytest.mark.parametrize("empty", [{"options": "auth_mode ="}, {"context": "auth_mode ="}])
def test_an_empty_mode_is_no_mode(tmp_path, empty):
    path = write(
        tmp_path, pipeline="authtoken context registryapp", token="glance.nowhere", **empty
    )
    assert paste.load_conf("glance-registry", path).auth_mode == "keystone"
    own = paste.load_sections("glance-registry", path)[1].own
    conf = paste.load_conf("glance-registry", path).merged(own, "x")
    assert conf.auth_mode == "keystone"


def test_an_application_that_cannot_be_loaded_is_reported_with_its_file(tmp_path):
    path = write(tmp_path, pipeline="odd context registryapp", token="glance.nowhere")
    with pytest.raises(exception.ConfigError) as caught:
        paste.load_paste_app("glance-registry", path)
    first, second = str(caught.value).splitlines()
    assert first == f"Unable to load glance-registry from configuration file {path}."
    assert second.startswith("Got: ")


def test_all_bad_options_are_told_at_once(tmp_path):
    path = write(tmp_path, options="db_auto_create = maybe\nsql_idle_timeout = x")
    with pytest.raises(exception.ConfigError) as caught:
        paste.load_conf("glance-registry", path).check()
    assert len(caught.value.problems) == 2
    assert all("glance-registry.conf: option" in line for line in caught.value.problems)


def test_stages_are_the_sections_of_the_pipeline_with_what_they_set(tmp_path):
    path = write(tmp_path, pipeline="odd missing context registryapp", section="a = %(here)s/x")
    sections = paste.load_sections("glance-registry", path)
    assert [section.source.partition(" ")[2] for section in sections] == [
        "[filter:odd]",
        "[filter:context]",
        "[app:registryapp]",
    ]
    assert [section.is_ours for section in sections] == [False, True, True]
    assert sections[-1].own == {"a": f"{tmp_path}/x"}


def test_an_application_without_a_pipeline_is_a_stage(tmp_path):
    path = tmp_path / "x.conf"
    path.write_text("[app:glance-registry]\npaste.app_factory = glance.x:y\nkey = 1\n")
    (section,) = paste.load_sections("glance-registry", str(path))
    assert (section.factory, dict(section.own)) == ("glance.x:y", {"key": "1"})


def test_an_explicit_mode_makes_any_kind_of_application_good(tmp_path):
    path = tmp_path / "x.conf"
    text = "[DEFAULT]\nauth_mode = noauth\n[composite:glance-registry]\nuse = egg:Paste#urlmap\n"
    path.write_text(text)
    assert paste.load_conf("glance-registry", str(path)).auth_mode == "noauth"
    path.write_text(text.replace("auth_mode = noauth", ""))
    with pytest.raises(exception.ConfigError, match="auth_mode"):
        paste.load_conf("glance-registry", str(path))


@pytest.mark.parametrize("mode, found", [(0o644, True), (0o640, False)])
def test_secrets_that_everybody_may_read_are_found_in_all_sections(tmp_path, mode, found):
    path = tmp_path / "x.conf"
    path.write_text("[DEFAULT]\nswift_store_key = a\nkey_file = b\n[filter:t]\nadmin_token = c\n")
    path.chmod(mode)
    expected = ["admin_token", "swift_store_key"] if found else []
    assert paste.exposed_secrets(str(path)) == expected


def test_both_sample_files_load(tmp_path):
    etc = os.path.join(os.path.dirname(__file__), "..", "..", "..", "..", "etc")
    for program in ("glance-api", "glance-registry"):
        conf = paste.load_conf(program, os.path.join(etc, f"{program}.conf"))
        conf.check()
        assert conf.auth_mode == "noauth"


@pytest.mark.parametrize("mode", ["", "trusted-headers"])
@pytest.mark.parametrize(
    "factory", ["keystonemiddleware.auth_token", "keystone.middleware.auth_token"]
)
def test_a_token_filter_gets_the_settings_of_its_section_alone(tmp_path, caplog, factory, mode):
    options = f"auth_mode = {mode}"
    path = write(
        tmp_path, pipeline="authtoken context registryapp", token=factory, options=options
    )
    guard = paste.load_paste_app("glance-registry", path)[1]
    assert isinstance(guard, context.IdentityGuard)
    assert type(guard.app).__module__ == "keystonemiddleware.auth_token"
    assert "sql_connection" not in caplog.text


def test_diablos_stage_for_the_context_lets_anonymous_callers_read(tmp_path):
    path = write(tmp_path, pipeline="shim registryapp", options="auth_mode = trusted-headers")
    with open(path, "a") as stream:
        stream.write(
            "[filter:shim]\npaste.filter_factory = "
            "keystone.middleware.glance_auth_token:filter_factory\n"
        )
    assert paste.load_paste_app("glance-registry", path)[1].anonymous


# -- programs that serve nobody ------------------------------------------------------------------


def test_the_file_of_another_program_does_where_there_is_none_of_the_own(home):
    shared = home / "home" / ".glance" / "glance-api.conf"
    shared.write_text("")
    find = {"others": ("glance-cache", "glance-api")}
    assert paste.find_config_file("glance-pruner", **find) == str(shared)
    assert paste.find_config_file("glance-pruner", argument=str(shared.parent), **find) == str(
        shared
    )
    # Its own wins wherever it lies.
    own = home / "home" / "glance-pruner.conf"
    own.write_text("")
    assert paste.find_config_file("glance-pruner", **find) == str(own)


def test_a_file_that_is_missing_is_named_as_that_of_the_program(home):
    with pytest.raises(exception.ConfigError, match=r"file .*/glance-pruner\.conf does not exist"):
        paste.find_config_file("glance-pruner", argument=".", others=("glance-api",))


def factory(global_conf, **local_conf):
    return {**global_conf, **local_conf}


@pytest.mark.parametrize("section", ["", "[pipeline:glance-api]\npipeline = odd\n"])
def test_without_a_section_the_factory_gets_the_settings_of_the_file(tmp_path, section):
    path = tmp_path / "glance-api.conf"
    path.write_text(f"[DEFAULT]\nverbose = True\n{section}")
    assert str(paste.load_shared_conf(str(path))["verbose"]) == "True"
    made = paste.load_shared_app("glance-pruner", str(path), factory)
    assert made["verbose"] == "True"
    assert made["__file__"] == str(path)


@pytest.mark.parametrize(
    ("named", "got"),
    [("no.such:factory", "ModuleNotFoundError"), ("os:no_such", "AttributeError")],
)
def test_a_section_that_names_no_factory_is_an_error_of_the_configuration(tmp_path, named, got):
    path = tmp_path / "glance-pruner.conf"
    path.write_text(f"[DEFAULT]\n[app:glance-pruner]\npaste.app_factory = {named}\n")
    with pytest.raises(exception.ConfigError, match=f"(?s)Unable to load glance-pruner.*{got}"):
        paste.load_shared_app("glance-pruner", str(path), factory)
