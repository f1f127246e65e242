"""Configuration files as the ConfigParser of Python 2.7 read them."""

import configparser

import pytest

from glance.common import ini


def read(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "x.conf"
    path.write_bytes(text.encode(encoding))
    parser = ini.IniParser(interpolation=None, strict=False)
    parser.read_path(str(path))
    return parser


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("sqlite:////x ; production", "sqlite:////x"),
        ("a\t; b", "a"),
        ("a  \t ;b", "a"),
        ("a ; b ; c", "a"),
        ("a ;", "a"),
        ("a b ; c", "a b"),
        # No blank before the first semicolon: all of it is the value.
        ("pass;word", "pass;word"),
        ("pass;word ; production", "pass;word ; production"),
        ("secret;", "secret;"),
        (";secret", ";secret"),
        ("; a comment", ""),
        (";", ""),
        # Only a semicolon begins a comment within a line.
        ("a # b", "a # b"),
        ("#fff", "#fff"),
        ("a = b : c", "a = b : c"),
        ('""', ""),
        ('"" ; empty', ""),
        ('"a"', '"a"'),
        ('"" a', '"" a'),
        ("", ""),
        ("%(here)s ; c", "%(here)s"),
        ("é ; ü", "é"),
    ],
)
@pytest.mark.parametrize("form", ["key = {}", "key={}", "key: {}", "key =\t{}", "key = {}\r"])
def test_values(tmp_path, line, value, form):
    parser = read(tmp_path, f"[DEFAULT]\n{form.format(line)}\nnext = 1\n")
    assert dict(parser.defaults()) == {"key": value, "next": "1"}


def test_values_of_several_lines(tmp_path):
    text = "[a]\nkey = one ; comment\n  two ; kept\n; comment\n\n  three\nother = x\n"
    parser = read(tmp_path, text)
    assert parser.get("a", "key").split("\n") == ["one", "two ; kept", "", "three"]
    assert parser.get("a", "other") == "x"


@pytest.mark.parametrize("line", ["rem text", "REM text = 1", "Rem\ttext", "rem", "REM = x ; y"])
def test_remarks(tmp_path, line):
    parser = read(tmp_path, f"{line}\n[a]\n{line}\nkey = one\n{line}\n  two\n{line}\n")
    assert dict(parser["a"]) == {"key": "one\ntwo"}


@pytest.mark.parametrize(
    ("line", "name"), [("remote = x", "remote"), ("rem=x", "rem"), ("REM: x", "REM")]
)
def test_what_only_looks_like_a_remark_is_an_option(tmp_path, line, name):
    assert dict(read(tmp_path, f"[a]\n{line}\n")["a"]) == {name: "x"}


def test_an_indented_remark_belongs_to_the_value_before(tmp_path):
    assert read(tmp_path, "[a]\nkey = x\n  rem y\n").get("a", "key") == "x\nrem y"


@pytest.mark.parametrize("text", ["[a]\nkey = x\n", "# c\n[a]\nkey = x\n", "rem c\n[a]\nkey = x"])
def test_a_byte_order_mark(tmp_path, text):
    assert read(tmp_path, text, "utf-8-sig").get("a", "key") == "x"


@pytest.mark.parametrize("header", ["[a] ; b", "[a] ; [b]", "[a]]", "[a]# b"])
def test_what_follows_the_name_of_a_section_is_ignored(tmp_path, header):
    assert read(tmp_path, f"{header}\nkey = x\n").sections() == ["a"]


def test_names_keep_their_case_and_the_last_of_two_counts(tmp_path):
    assert dict(read(tmp_path, "[a]\nKey = 1\nkey = 2\n[a]\nkey = 3\n")["a"]) == {
        "Key": "1",
        "key": "3",
    }


@pytest.mark.parametrize("text", ["key = x", "[a]\nkey\n", "[a]\n= x\n"])
def test_errors_name_the_file(tmp_path, text):
    with pytest.raises(configparser.Error, match=r"x\.conf"):
        read(tmp_path, text)


def test_a_long_line_is_read_at_once(tmp_path):
    """The pattern does not try the same characters again and again."""
    for value in ("a " * 200_000 + "b", "a" + " " * 200_000 + "b", ";" * 200_000):
        assert read(tmp_path, f"[a]\nkey = {value}\n").get("a", "key") == value
        if ";" not in value:
            assert read(tmp_path, f"[a]\nkey = {value} ;c\n").get("a", "key") == value
