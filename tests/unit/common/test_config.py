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
        with pytest.raises(exception.ConfigError, match="not below 1"):
            config.Conf({"port": "0"}).check()

    def test_an_empty_value_is_the_default(self):
        assert config.Conf({"port": ""}).port == 9292

    def test_an_alias_is_its_option_and_loses_against_it(self, caplog):
        assert config.Conf({"old_idle": "3"}).idle == 3
        assert config.Conf({"old_idle": "3", "idle": "4"}).idle == 4
        assert "old_idle" in caplog.text

    def test_a_near_miss_is_warned_of(self, caplog):
        caplog.set_level(logging.WARNING)
        config.Conf({"pass_phrse": "x", "something_else": "y"}).check()
        assert "pass_phrase" in caplog.text
        assert "something_else" not in caplog.text

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
            }
        )
        assert "canary" not in str(conf.public())

    def test_declaring_twice_is_an_error(self):
        with pytest.raises(ValueError, match="twice"):
            config.options("test", config.Option("flag"))

    def test_a_copy_with_other_values(self):
        conf = config.Conf({"port": "1"})
        assert conf.with_(port=2).port == 2
        assert conf.port == 1
