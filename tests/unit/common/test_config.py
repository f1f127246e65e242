"""The option table and the configuration made by it."""

import logging

import pytest

from glance.common import config, exception


@pytest.fixture
def table(monkeypatch):
    monkeypatch.setattr(config, "TABLE", {})
    monkeypatch.setattr(config, "GROUPS", {})
    monkeypatch.setattr(config, "_ALIASES", {})
    config.options(
        "test",
        config.Option("flag", config.boolean, False),
        config.Option("port", config.integer, 9292, minimum=1),
        config.Option("mode", default="a", choices=("a", "b")),
        config.Option("where", config.path, None),
        config.Option("idle", config.integer, 10, aliases=("old_idle",)),
        config.Option("pass_phrase", secret=True),
        config.Option("typed", in_files=False),
    )


@pytest.mark.usefixtures("table")
class TestConf:
    def test_defaults(self):
        conf = config.Conf()
        assert (conf.flag, conf.port, conf.mode, conf.where) == (False, 9292, "a", None)

    @pytest.mark.parametrize("word", ["True", "yes", "ON", "1"])
    def test_true_words(self, word):
        assert config.Conf({"flag": word}).flag is True

    @pytest.mark.parametrize("word", ["False", "no", "off", "0"])
    def test_false_words(self, word):
        assert config.Conf({"flag": word}).flag is False

    def test_all_problems_are_listed_at_once_with_file_and_name(self):
        conf = config.Conf({"flag": "maybe", "port": "abc", "mode": "c"}, source="x.conf")
        with pytest.raises(exception.ConfigError) as caught:
            conf.check()
        assert len(caught.value.problems) == 3
        assert all("x.conf: option" in problem for problem in caught.value.problems)

    def test_numbers_have_bounds(self):
        with pytest.raises(exception.ConfigError, match="at least 1"):
            config.Conf({"port": "0"}).check()

    def test_an_empty_value_is_the_default(self):
        assert config.Conf({"port": ""}).port == 9292

    def test_an_alias_is_its_option_and_loses_against_it(self, caplog):
        assert config.Conf({"old_idle": "3"}).idle == 3
        both = config.Conf({"old_idle": "3", "idle": "4"}, source="x.conf")
        assert both.idle == 4
        both.report()
        assert "x.conf: option old_idle is ignored: idle takes precedence" in caplog.text

    def test_an_alias_that_says_the_same_is_no_contradiction(self, caplog):
        config.Conf({"old_idle": "3", "idle": "3"}).report()
        assert not caplog.records

    def test_a_sections_own_setting_wins_under_whatever_name(self):
        conf = config.from_paste({"__file__": "/etc/x.conf", "idle": "4"}, {"old_idle": "3"})
        assert (conf.idle, conf.source) == (3, "x.conf")

    @pytest.mark.parametrize(
        "slip",
        ["pass_phrse", "pass_phrasee", "pass_phrasr", "pass_phraes", "ass_phrase", "xpass_phrase"],
    )
    def test_one_slip_away_from_a_name_is_warned_of(self, caplog, slip):
        caplog.set_level(logging.WARNING)
        conf = config.Conf({slip: "x", "something_else": "y"}, source="x.conf")
        conf.check()
        conf.report()
        assert caplog.messages == [f"x.conf: option {slip} is unknown; did you mean pass_phrase?"]

    def test_a_slip_in_an_old_name_is_found_too(self):
        assert config.near("old_idl") == "old_idle"

    @pytest.mark.parametrize("name", ["ps_phrase", "por", "pass_phrase_too", "", "x"])
    def test_names_further_away_are_noted_only(self, caplog, name):
        caplog.set_level(logging.DEBUG)
        config.Conf({name: "x"}).report()
        assert {record.levelname for record in caplog.records} == (
            {"WARNING"} if name == "por" else {"DEBUG"}
        )

    def test_what_is_for_the_command_line_does_not_count_in_a_file(self, caplog):
        conf = config.from_file({"typed": "x", "idle": "4"}, "x.conf")
        conf.report()
        assert (conf.typed, conf.idle) == (None, 4)
        assert caplog.messages == [
            "x.conf: option typed is ignored: it can only be set on the command line"
        ]
        assert conf.replace(typed="y").typed == "y"

    def test_what_paste_adds_is_no_option(self, caplog):
        caplog.set_level(logging.DEBUG)
        conf = config.Conf({"here": "/etc", "__file__": "/etc/x.conf"})
        conf.report()
        assert not caplog.records
        assert conf.public() == {}

    def test_a_choice_left_empty_is_not_made(self):
        assert config.Conf({"mode": ""}).mode == "a"

    def test_foreign_names_keep_their_text(self):
        assert config.Conf({"foreign": "5"}).foreign == "5"
        with pytest.raises(AttributeError):
            _ = config.Conf().foreign

    def test_secrets_are_masked(self):
        conf = config.Conf(
            {
                "pass_phrase": "canary",
                "admin_token": "canary",
                "some_key": "canary",
                "url": "mysql://glance:canary@db/glance",
                "dsn": "postgresql://db/glance?user=x&password=canary&sslmode=require",
                "RABBIT_PASSWORD": "canary",
            }
        )
        shown = conf.public()
        assert "canary" not in str(shown)
        assert shown["url"] == "mysql://glance:***@db/glance"
        assert shown["dsn"].endswith("?user=x&password=***&sslmode=require")
        assert len(conf.secrets()) == 6

    def test_what_is_no_secret_is_shown(self):
        given = {"key_file": "/etc/key.pem", "url": "http://h/p?name=x", "token_life": "3"}
        assert config.Conf(given).public() == given

    def test_declaring_twice_is_an_error(self):
        with pytest.raises(ValueError, match="twice"):
            config.options("test", config.Option("flag"))

    def test_a_copy_with_other_values(self):
        conf = config.Conf({"port": "1"})
        assert conf.replace(port=2).port == 2
        assert conf.port == 1
