"""Every option of the table: a value that cannot be right is told, and no value means unset."""

from __future__ import annotations

import pytest

from glance.cli.daemon import readers
from glance.common import config, exception

readers.load_options()

#: Options that take any text: names, secrets, paths, lists of words, and formats of log lines.
ANYTHING = {
    *("log_format", "log_date_format", "admin_role", "notification_publisher_id"),
    *("notification_redact_properties", "admin_user", "admin_password", "admin_tenant_name"),
    *("admin_token", "rabbit_userid", "rabbit_password", "rabbit_virtual_host", "user", "group"),
    *("rabbit_notification_topic", "rabbit_notification_exchange", "swift_store_user"),
    *("swift_store_key", "swift_store_user_domain_id", "swift_store_project_domain_id"),
    *("swift_store_region", "swift_store_service_type", "swift_store_endpoint_type"),
    *("swift_store_container", "s3_store_access_key", "s3_store_secret_key", "s3_store_bucket"),
    *("s3_store_region", "sql_connection", "s3_store_host", "swift_store_auth_address"),
}
#: Checked beyond their type, by the part of the program that loads what they name.
LOADED = {
    *("default_store", "context_class", "policy_class", "notifier_strategy", "image_cache_driver"),
}
#: WIRE: files with any text for these always worked.
TOLERANT = {"limit_param_default", "api_limit_max"}
#: Lists whose separators are in the text; each part has a form of its own.
LISTS = {"rabbit_hosts"}
FREE = ANYTHING | LOADED | TOLERANT | LISTS
CHECKED = sorted(
    name
    for name, option in config.TABLE.items()
    if option.type not in (config.path, config.words) and name not in FREE
)


def test_the_exceptions_are_options() -> None:
    assert set(config.TABLE) >= FREE


@pytest.mark.parametrize("name", CHECKED)
def test_garbage_is_told(name: str) -> None:
    conf = config.Conf({name: "no such value ü?"}, source="/etc/glance/x.conf")
    with pytest.raises(exception.ConfigError) as caught:
        conf.check()
    (problem,) = caught.value.problems
    assert problem.startswith(f"/etc/glance/x.conf: option {name} has the invalid value ")
    assert ("ü?" in problem) == (not config.is_secret(name))


@pytest.mark.parametrize("empty", ["", " ", "\t"])
@pytest.mark.parametrize("name", sorted(config.TABLE))
def test_no_value_means_unset_unless_it_means_something(name: str, empty: str) -> None:
    conf = config.Conf({name: empty})
    conf.check()
    means_something = config.TABLE[name].may_be_empty
    assert conf[name] == ("" if means_something else config.Conf()[name])
    assert conf[name] != config.Conf()[name] or not means_something


def test_an_old_name_is_told_as_it_stands_in_the_file() -> None:
    for option in config.TABLE.values():
        for alias in option.aliases:
            conf = config.Conf({alias: "x y"}, source="/f")
            assert conf.at(option.name) == f"/f: option {alias}"
            if option.name in CHECKED:
                with pytest.raises(exception.ConfigError, match=f"^/f: option {alias} has"):
                    conf.check()


def test_names_survive_what_a_program_does_with_its_settings() -> None:
    conf = config.Conf({"sql_timeout": "x"}, source="/f").replace(verbose="true").redone()
    assert conf.at("sql_idle_timeout") == "/f: option sql_timeout"
    section = conf.merged({"sql_idle_timeout": "3"}, "/f [app:x]")
    assert section.at("sql_idle_timeout") == "/f [app:x]: option sql_idle_timeout"
    kept = conf.merged({"sql_idle_timeout": " "}, "/f")
    assert kept.at("sql_idle_timeout") == "/f: option sql_timeout"


def test_an_option_of_the_command_line_is_told_as_it_stands_there() -> None:
    conf = config.Conf({"log_format": "a", "sql_timeout": "x"}, source="/f")
    given = conf.overridden(
        {"log_format": "%(", "debug": True}, {"log_format": "--log-format", "debug": "--debug"}
    )
    assert given.at("log_format") == "option --log-format"
    assert given.at("sql_idle_timeout") == "/f: option sql_timeout"
    assert (given.log_format, given.debug, conf.at("log_format")) == (
        "%(",
        True,
        "/f: option log_format",
    )
