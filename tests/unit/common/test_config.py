"""The option table and the configuration made by it."""

import importlib
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
        assert (conf.idle, conf.source) == (3, "/etc/x.conf")

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


# -- secrets -------------------------------------------------------------------------------------

CANARY = "c4nary"


@pytest.mark.parametrize(
    "url",
    [
        "mysql://glance:{}@db/glance",
        "mysql+pymysql://glance:{}@db:33o6/glance",
        # Mistyped.
        "mysql:/glance:{}@db/glance",
        "mysql//glance:{}@db/glance",
        "mysql;//glance:{}@db/glance",
        "mysql:glance:{}@db/glance",
        "mysql:\\\\glance:{}@db/glance",
        "mysql://glance;{}@db/glance",
        "mysql://glance {}@db/glance",
        "mysql://glance:{}#db/glance",
        "mysql://glance:{}",
        "glance:{}@db/glance",
        # With characters that should have been encoded.
        "mysql://glance:a@{}@db/glance",
        "mysql://glance:{}://@db/glance",
        "mysql://glance:{}?x#y@db/glance",
        "mysql://glance:a/{}@db/glance",
        "mysql://glance:a {}@db/glance",
        # In the query, and in the strings of libpq and ODBC.
        "postgresql://db/glance?user=x&password={}&sslmode=require",
        "postgresql://db/glance?password=a {}&user=x",
        "postgresql:///glance?PASSWORD={}",
        "postgresql://db/glance?sslpassword={}",
        "postgresql://db/glance?pasword={}&user=x",
        "host=db passwrod={} dbname=glance",
        "http://h/x?X-Auth-Token={}",
        "http://h/x?a=1&X-Amz-Credential={}&b=2",
        "host=db user=glance password={} dbname=glance",
        "host=db password='it\\'s {}' user=glance",
        "host=db password='never ended {}",
        'host=db password="a {}"',
        "host=db\tpassword = {}",
        "password={}",
        "postgresql+psycopg2:host=db password={}",
        "Driver=x;UID=glance;PWD={};DB=glance",
        # Several.
        "glance:{0}@h1:5672,glance:{0}@h2:5672",
        "amqp://glance:{0}@h1:5672, amqp://glance:{0}@h2:5672",
    ],
)
def test_no_password_of_a_connection_is_shown(url):
    text = url.format(CANARY)
    for option in ("sql_connection", "rabbit_hosts", "anything"):
        assert CANARY not in config.mask(option, text)
    assert "***" in config.mask_url(text)
    if " " not in text or text.startswith("host="):
        assert CANARY not in config.mask_text(f"unrecognized arguments: --x {text}")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sqlite:////var/lib/gl@nce/glance.sqlite",
        "sqlite:///%(here)s/glance.sqlite",
        "mysql+pymysql://glance@db:3306/glance?charset=utf8",
        "host=db user=glance dbname=glance",
        "http://[::1]:9292/v1?limit=3",
        "h1:5672, [::1]:5672",
        "glance@example.org",
        "glance.api.v1:app_factory",
        "%(asctime)s %(levelname)8s [%(name)s] %(message)s",
    ],
)
def test_what_holds_no_password_is_shown_as_it_is(text):
    assert config.mask_url(text) == text
    assert config.mask_text(text) == text


@pytest.mark.parametrize(
    "text", ["a key to b", "x = y", "it's 5: a@b", "/etc/glance.conf: line 3"]
)
def test_messages_stay_as_they_are(text):
    assert config.mask_text(text) == text


@pytest.mark.parametrize(
    "name",
    [
        "metadata_encryption_old_keys",
        "some_password_of_mine",
        # Mistyped.
        "metadata_encryption_kyes",
        "swift_store_kye",
        "swift_store_ky",
        "admin_pasword",
        "admin_passwrod",
        "rabbit_pasword2",
        "registry_shared_secrte",
        "registry_shared_sceret",
        "admin_tokne",
        "admin-tocken",
        # In other styles.
        "apikey",
        "APIKEY",
        "adminPassword",
        "DbPwd",
        "db_pass",
        "aws_credentails",
        "passphrase",
        "pass_phrase_key",
        "adminpass",
        "swift_store_creds",
    ],
)
def test_a_name_that_resembles_that_of_a_secret_is_masked(name):
    assert config.is_secret(name)
    conf = config.Conf({name: CANARY})
    assert conf.public() == {name: "***"}
    assert conf.secrets() == [name]


@pytest.mark.parametrize(
    "name", ["key_file", "token_life", "swift_store_region", "workers", "second", "sort", "user"]
)
def test_other_unknown_names_are_shown(name):
    assert config.Conf({name: "value"}).public() == {name: "value"}


@pytest.mark.parametrize(
    "text", [f"glance:{CANARY}@db", f"http://glance:{CANARY}@db:1", f"amqp://g:{CANARY}@[::1]"]
)
@pytest.mark.parametrize("name", ["bind_host", "registry_host", "rabbit_host"])
def test_a_host_with_a_password_is_an_error_that_does_not_show_it(name, text):
    for module in ("http.server.options", "registry.link", "notifier.rabbit_options"):
        importlib.import_module(f"glance.{module}")
    conf = config.Conf({name: text}, source="x.conf")
    with pytest.raises(exception.ConfigError, match="use a host name or an address") as caught:
        conf.check()
    assert CANARY not in str(caught.value)
    assert CANARY not in str(conf.public())


def test_a_secret_is_masked_whole_even_if_it_looks_like_a_url():
    assert config.mask("admin_token", f"{CANARY}://user:x@host") == "***"


def test_each_declared_secret_is_recognized_without_its_declaration(monkeypatch):
    """A program that does not import the module of an option does not know it."""
    secrets = [name for name, option in config.TABLE.items() if option.secret]
    monkeypatch.setattr(config, "TABLE", {})
    assert all(map(config.is_secret, secrets))


@pytest.mark.parametrize(
    "text",
    ["?" + "key" * 30_000, "key " * 30_000, "a=" * 50_000, "a@" + ":" * 100_000, "'=" * 50_000]
    + ["k= " * 40_000, "://" * 50_000 + "@", "x='" * 30_000, " " * 100_000, ";" * 100_000],
)
def test_masking_takes_time_in_proportion_to_the_length(text):
    """Otherwise this would take minutes."""
    config.mask_url(text)
    config.mask_url(f"http://h/{text}")
    config.mask_text(text)
