"""What is made from the declarations: fresh in the checkout, complete, and of use to readers."""

import pathlib
import re
import shutil
import subprocess

import pytest

from glance.cli.docs import pages
from glance.cli.user import command, commands, completion

from support import checkout, images
from support import pages as written

ROOT = pathlib.Path(__file__).resolve().parents[4]
MADE = pages.pages()
MAN = [name for name in MADE if name.startswith("doc/man/")]


@pytest.mark.parametrize("name", MADE)
def test_generated_files_are_fresh(name):
    fresh = (ROOT / name).read_text(encoding="utf-8") == MADE[name]
    assert fresh, "run: python3 tests/run.py run -e docs"


def test_files_are_written_below_the_given_directory(tmp_path, capsys):
    assert pages.main([str(tmp_path)]) == 0
    written = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert written == set(MADE)
    assert len(capsys.readouterr().out.splitlines()) == len(MADE)


def made(page):
    """Return the name of a generated page, whichever shelf it stands on."""
    (name,) = (each for each in MADE if each.endswith(f"/{page}.rst"))
    return name


GLANCE = [made("cli"), "doc/man/glance.1"]


def text_of(name):
    """Return a generated file, a manual page without the escapes of troff."""
    text = MADE[name]
    if name in MAN:
        for escape, character in {"\\-": "-", "\\(aq": "'", "\\(dq": '"', "\\e": "\\"}.items():
            text = text.replace(escape, character)
    return text


@pytest.mark.parametrize("name", GLANCE)
@pytest.mark.parametrize("entry", commands.COMMANDS.values(), ids=lambda entry: entry.name)
def test_every_command_is_described(name, entry):
    assert command.synopsis(entry) in text_of(name)
    # Markup may lie between the lines, so one of them stands for all.
    assert entry.text.splitlines()[0].replace("*", "\\*")[:40] in text_of(name)


@pytest.mark.parametrize("name", [*GLANCE, "etc/completion/glance.bash", "etc/completion/_glance"])
def test_every_option_is_named(name):
    names = {each for option in commands.OPTIONS for each in option.names}
    assert not {each for each in names if each not in text_of(name)}


@pytest.mark.parametrize("name", GLANCE)
def test_exit_codes_and_variables_are_named(name):
    assert all(text in text_of(name) for _, text in command.EXIT_CODES)
    assert all(each in text_of(name) for option in commands.OPTIONS for each in option.env)


@pytest.mark.parametrize("program", pages.PROGRAMS, ids=lambda program: program.name)
@pytest.mark.parametrize(
    "name", ["doc/man/{}.1", "etc/completion/{}.bash", "etc/completion/_{}", "page"]
)
def test_everything_about_the_other_programs_is_named(program, name):
    page = "programs" if program in pages.SERVICE else "cli"
    text = text_of(made(page) if name == "page" else name.format(program.name))
    assert all(each in text for option in program.options for each in option.names)
    assert all(choice in text for word in program.words for choice in word.choices)
    if "completion" not in name:
        assert program.usage.removeprefix(f"{program.name} ") in text
        assert all(word.help in text for word in program.words)
        assert all(meaning in text for _, meaning in program.exit_codes)


@pytest.mark.parametrize("program", pages.PROGRAMS, ids=lambda program: program.name)
def test_help_of_a_program_says_everything(program):
    text = " ".join(program.parser().format_help().split())
    assert text.startswith(f"usage: {program.usage} {program.summary}.")
    assert all(each in text for option in program.options for each in option.names)
    assert all(f"{word.label}: {word.help}" in text for word in program.words)
    assert all(f"{code} {meaning}" in text for code, meaning in program.exit_codes)


def test_every_program_is_described():
    assert {"glance", *(program.name for program in pages.PROGRAMS)} == {
        path.name for path in (ROOT / "bin").iterdir() if path.name != "glance-quickstart"
    }


def test_options_that_commands_heed_exist():
    known = {option.dest for option in commands.OPTIONS}
    heeded = {dest for entry in commands.COMMANDS.values() for dest in entry.options}
    assert heeded <= known
    assert set(commands.CONNECTION) <= known
    # Whatever is not for all commands is for one.
    assert known == heeded | set(commands.CONNECTION) | {"verbose", "debug"}


@pytest.mark.peers
@pytest.mark.parametrize("name", MAN)
def test_manual_pages_are_sound(name):
    images.need("groff")
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", "-z"], input=MADE[name], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


# -- completion ----------------------------------------------------------------------------------

SHELLS = {
    "bash": "etc/completion/{}.bash",
    "zsh": "etc/completion/_{}",
    "fish": "etc/completion/{}.fish",
}

COMPLETE = """
source /dev/stdin <<< "$SCRIPT"
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_${1//-/_}
printf '%s\\n' "${COMPREPLY[@]}"
"""


def complete(*words, program="glance"):
    """Return what bash offers for the last of `words`, split as bash splits them."""
    done = subprocess.run(
        ["bash", "-c", COMPLETE, "bash", program, *words],
        env={"SCRIPT": MADE[SHELLS["bash"].format(program)], "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert not done.stderr
    return set(done.stdout.strip("\n").splitlines())


FORMATS = {"ami", "ari", "aki", "vhd", "vhdx", "vmdk", "raw", "qcow2", "vdi", "iso", "ploop"}
bash = pytest.mark.skipif(not shutil.which("bash"), reason="bash is not installed")


@bash
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["cache-re"], {"cache-reap-invalid", "cache-reap-stalled"}),
        (["-v", "cle"], {"clear"}),
        (["--limit", "3", "cle"], {"clear"}),
        (["--limit", "=", "3", "cle"], {"clear"}),
        (["help", "mem"], {"member-images", "member-add", "member-delete", "members-replace"}),
        (["completion", ""], {"bash", "zsh", "fish"}),
        (["update", "5", "disk"], {"disk_format="}),
        (["update", "5", "disk_format", "="], FORMATS),
        (["add", "disk_format", "=", "v"], {"vhd", "vhdx", "vmdk", "vdi"}),
        (["add", "container_format", "=", "o"], {"ovf", "ova"}),
        (["index", "--sort_dir", ""], {"asc", "desc"}),
        (["index", "--sort_dir", "=", "d"], {"desc"}),
        (["index", "--format", "=", ""], {"text", "json", "value"}),
        (["index", "--lim"], {"--limit"}),
        (["index", "--limit", ""], set()),
        (["show", ""], set()),
        (["delete", "--for"], {"--force"}),
    ],
    # NOTE: a set has another order in each process that collects the tests.
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bash_completes(words, offered):
    assert complete(*words) == offered


@bash
def test_bash_offers_all_commands_first():
    assert complete("") == set(commands.COMMANDS)


@bash
def test_bash_completes_files_where_one_is_wanted(tmp_path):
    (tmp_path / "disk.raw").touch()
    assert complete("download", "--file", "=", f"{tmp_path}/d") == {f"{tmp_path}/disk.raw"}


@bash
@pytest.mark.parametrize("program", ["glance", "glance-manage"])
@pytest.mark.parametrize(
    "before",
    [
        ["add", "name", "=", "x", "<"],
        ["<"],
        ["-v", "add", "2", ">"],
        ["add", ">>"],
        ["add", ">|"],
        ["add", "&>"],
    ],
    ids=" ".join,
)
def test_bash_completes_files_behind_a_redirection(tmp_path, program, before):
    (tmp_path / "my disk.raw").touch()
    wanted = {f"{tmp_path}/my disk.raw"}
    assert complete(*before, f"{tmp_path}/m", program=program) == wanted


@bash
def test_bash_completes_what_stands_behind_a_redirected_file():
    assert complete("add", "<", "x", "disk") == {"disk_format="}
    assert complete("<", "delete", "add", "disk") == {"disk_format="}
    assert complete("<", "api", "api", "st", program="glance-control") == {
        "start",
        "stop",
        "status",
    }


SERVERS = {"all", "api", "registry", "scrubber", "converter"}


@bash
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["glance-control", ""], SERVERS),
        (["glance-control", "-v", "--config-file", "=", "/x", "re"], {"registry"}),
        (["glance-control", "all", "st"], {"start", "stop", "status"}),
        (["glance-control", "--pid-file", "/x", "api", "rel"], {"reload"}),
        (["glance-control", "api", "start", "--pid"], {"--pid-file"}),
        (["glance-control", "api", "start", "etc", ""], set()),
        (["glance-manage", "db_v"], {"db_version"}),
        (["glance-manage", "--sql-connection", ""], set()),
        (["glance-scrubber", "--dae"], {"--daemon"}),
        (["glance-upload", "--disk-format", "=", "v"], {"vhd", "vhdx", "vmdk", "vdi"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bash_completes_the_other_programs(words, offered):
    assert complete(*words[1:], program=words[0]) == offered


@bash
@pytest.mark.parametrize("before", [[], ["a"], ["a", "--format", "json", "b"]])
def test_bash_completes_a_word_that_is_repeated(tmp_path, before):
    (tmp_path / "disk.raw").touch()
    offered = complete(*before, f"{tmp_path}/d", program="glance-inspect")
    assert offered == {f"{tmp_path}/disk.raw"}


@bash
@pytest.mark.parametrize("before", [["api", "start"], ["--config-file"], ["--pid-file", "="]])
def test_bash_completes_files_of_other_programs(tmp_path, before):
    (tmp_path / "glance-api.conf").touch()
    offered = complete(*before, f"{tmp_path}/g", program="glance-control")
    assert offered == {f"{tmp_path}/glance-api.conf"}


@pytest.mark.parametrize("program", ["glance", *(each.name for each in pages.PROGRAMS)])
@pytest.mark.parametrize(
    "shell", ["bash", *(pytest.param(name, marks=pytest.mark.peers) for name in ("zsh", "fish"))]
)
def test_scripts_are_valid(shell, program):
    images.need(shell)
    script = MADE[SHELLS[shell].format(program)]
    done = subprocess.run(
        [shell, "-n"],
        input=script,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")


RUNS = {
    "installing": {
        "Read the manual, complete words": (
            "test_bash_finds_the_script_of_a_program_by_its_name",
            "test_zsh_completes",
            "test_fish_completes",
        )
    }
}
LOADER = pathlib.Path("/usr/share/bash-completion/bash_completion")
LOAD = 'eval "$LINE"; source "$LOADER"; _completion_loader "$1"; complete -p "$1"'


def printed(start, installed):
    """Return the line of the page about installing that begins so, for another directory."""
    (line,) = checkout.blocks(written.path("installing"), having=start)
    return line.replace("/opt/glance", str(installed))


@pytest.mark.peers
@pytest.mark.parametrize("program", ["glance", *(each.name for each in pages.PROGRAMS)])
def test_bash_finds_the_script_of_a_program_by_its_name(program, tmp_path):
    images.need(LOADER)
    installed = tmp_path / "share" / "bash-completion" / "completions"
    installed.mkdir(parents=True)
    name = SHELLS["bash"].format(program)
    (installed / pathlib.Path(name).name).write_text(MADE[name])
    done = subprocess.run(
        ["bash", "-c", LOAD, "bash", program],
        env={
            "LOADER": str(LOADER),
            "LINE": printed("export XDG_DATA_DIRS=", tmp_path),
            "PATH": "/usr/bin:/bin",
        },
        capture_output=True,
        text=True,
    )
    assert done.stdout == f"complete -F _{program.replace('-', '_')} {program}\n"


# The prompt tells that the line editor listens; quotes keep the echo of a line from matching.
ZSH = r"""
zmodload zsh/zpty || exit 77
zpty shell zsh -f -i
zpty -w shell "$1; autoload -Uz compinit; compinit -u -D; PS1='G''O> '"
zpty -r shell seen '*GO> *'
zpty -w -n shell "$2"$'\t\t\C-u'"print E''ND"$'\n'
zpty -r shell seen '*END*'
print -r -- $seen
"""


@pytest.mark.peers
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("glance cache-r", ["cache-reap-invalid", "cache-reap-stalled"]),
        ("glance update 5 disk_format=v", ["vdi", "vhd", "vhdx", "vmdk"]),
        ("glance -v index --sort_key=", ["created_at", "updated_at", "size"]),
        ("glance completion ", ["bash", "zsh", "fish"]),
        ("glance show 5 --forma", ["--format"]),
        ("glance show 5 --format=", ["text", "json", "value"]),
        ("glance download 5 --file=", ["disk-1.raw", "disk-2.raw"]),
        ("glance download 5 --file ", ["disk-1.raw", "disk-2.raw"]),
        ("glance add name=x < ", ["disk-1.raw", "disk-2.raw"]),
        ("glance add -v disk_format=v", ["vdi", "vhd", "vhdx", "vmdk"]),
        (
            "glance-control all st",
            ["start", "stop", "status", "tell whether the server is running"],
        ),
        ("glance-control --pid", ["--pid-file"]),
        ("glance-manage db_", ["db_version", "db_sync", "db_purge"]),
        ("glance-upload --disk-format=v", ["vdi", "vhd", "vhdx", "vmdk"]),
    ],
)
def test_zsh_completes(line, offered, tmp_path):
    images.need("zsh")
    program = line.partition(" ")[0]
    functions = tmp_path / "share" / "zsh" / "site-functions"
    functions.mkdir(parents=True)
    (functions / f"_{program}").write_text(MADE[SHELLS["zsh"].format(program)])
    home = tmp_path / "home"
    home.mkdir()
    for name in ("disk-1.raw", "disk-2.raw"):
        (home / name).touch()
    done = subprocess.run(
        ["zsh", "-f", "-c", ZSH, "zsh", printed("fpath=", tmp_path), line],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=home,
        env={"PATH": "/usr/bin:/bin", "TERM": "xterm", "COLUMNS": "200"},
    )
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", done.stdout)
    assert all(word in shown for word in offered), done.stdout + done.stderr


@pytest.mark.parametrize("program", ["glance", *(each.name for each in pages.PROGRAMS)])
def test_fish_has_a_line_for_each_option(program):
    script = MADE[SHELLS["fish"].format(program)]
    given = next((each for each in pages.PROGRAMS if each.name == program), None)
    for option in commands.OPTIONS if given is None else given.options:
        (name, *_) = [name for name in option.names if name.startswith("--")]
        (line,) = re.findall(rf"^complete .* -l {name[2:]}(?: .*|)$", script, re.MULTILINE)
        assert line.startswith(f"complete -c {program} ")
        assert (" -x" in line or " -r" in line) == (option.kind is not None)


@pytest.mark.peers
@pytest.mark.parametrize(
    ("line", "offered", "hidden"),
    [
        ("glance cache-r", ["cache-reap-invalid", "cache-reap-stalled"], ["index"]),
        ("glance --limit 3 cle", ["clear"], []),
        ("glance --limit=3 -v cle", ["clear"], []),
        ("glance update 5 disk_format=v", ["disk_format=vdi", "disk_format=vmdk"], ["clear"]),
        ("glance add na", ["name="], []),
        ("glance -v index --sort_key=", ["--sort_key=created_at", "--sort_key=size"], []),
        ("glance index --sort-dir ", ["asc", "desc"], ["disk-1.raw"]),
        ("glance completion ", ["bash", "zsh", "fish"], ["disk-1.raw"]),
        ("glance show 5 --forma", ["--format"], []),
        ("glance show 5 --sort", [], ["--sort_key"]),
        ("glance show 5 --format=", ["--format=text", "--format=json", "--format=value"], []),
        ("glance download 5 --file=d", ["--file=disk-1.raw", "--file=disk-2.raw"], []),
        ("glance download 5 --file ", ["disk-1.raw", "disk-2.raw"], []),
        ("glance add name=x < d", ["disk-1.raw", "disk-2.raw"], []),
        ("glance show ", [], ["disk-1.raw", "show"]),
        ("glance-control all st", ["start", "stop", "status"], ["all"]),
        ("glance-control --pid", ["--pid-file"], []),
        ("glance-manage db_", ["db_version", "db_sync", "db_purge"], []),
        ("glance-upload --disk-format=v", ["--disk-format=vdi", "--disk-format=vhd"], []),
        ("glance-upload d", ["disk-1.raw", "disk-2.raw"], []),
    ],
)
def test_fish_completes(line, offered, hidden, tmp_path):
    images.need("fish")
    program = line.partition(" ")[0]
    functions = tmp_path / "share" / "fish" / "vendor_completions.d"
    functions.mkdir(parents=True)
    (functions / f"{program}.fish").write_text(MADE[SHELLS["fish"].format(program)])
    home = tmp_path / "home"
    home.mkdir()
    for name in ("disk-1.raw", "disk-2.raw"):
        (home / name).touch()
    # Fish reads the script of a program only if there is one.
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / program).touch(0o755)
    done = subprocess.run(
        ["fish", "--private", "-c", f"{printed('set -p', tmp_path)}; complete -C $argv[1]", line],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=home,
        env={"PATH": f"{tmp_path}/bin:/usr/bin:/bin", "HOME": str(home)},
    )
    assert done.stderr == ""
    found = [row.partition("\t")[0] for row in done.stdout.splitlines()]
    assert set(offered) <= set(found) and not set(hidden) & set(found), done.stdout


@pytest.mark.parametrize("shell", completion.SCRIPTS)
def test_completion_prints_the_script(glance, shell):
    done = glance("completion", shell)
    assert (done.code, done.out, done.err) == (0, completion.SCRIPTS[shell](), "")


@pytest.mark.parametrize("args", [(), ("csh",), ("bash", "zsh")])
def test_completion_is_for_one_known_shell(glance, args):
    done = glance("completion", *args)
    assert (done.code, done.out) == (1, "")
    assert done.err == "glance: Please specify one shell: bash or zsh or fish\n"


# -- the helper for the credentials of Nova ------------------------------------------------------


def sourced(**environ):
    line = ". etc/nova-to-os-env.sh; env"
    done = subprocess.run(
        ["sh", "-euc", line], cwd=ROOT, env=environ, capture_output=True, text=True, check=True
    )
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if line[:3] == "OS_")


def test_credentials_of_nova_become_those_of_glance():
    assert sourced(
        NOVA_USERNAME="joe",
        NOVA_API_KEY='it\'s $HOME `x` \\ "q"',
        NOVA_PROJECT_ID="acme",
        NOVA_URL="http://h:5000/v2.0/",
        NOVA_AUTH_STRATEGY="keystone",
    ) == {
        "OS_AUTH_USER": "joe",
        "OS_AUTH_KEY": 'it\'s $HOME `x` \\ "q"',
        "OS_AUTH_TENANT": "acme",
        "OS_AUTH_URL": "http://h:5000/v2.0/",
        "OS_AUTH_STRATEGY": "keystone",
    }


def test_credentials_that_nova_lacks_are_left_alone():
    assert sourced(NOVA_USERNAME="joe", OS_AUTH_KEY="kept") == {
        "OS_AUTH_USER": "joe",
        "OS_AUTH_KEY": "kept",
    }
