"""Completion of `glance` in bash, zsh and fish, made from the declared options and commands.

`glance completion bash` prints one; `glance.cli.docs.pages` writes all to etc/completion for
packages. The words for an option or a field are looked up here by the `values` of its declaration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from glance.cli.option import ProgramOption
from glance.cli.user import commands as user_commands
from glance.cli.user.screen import console


def values(kind: str | None) -> tuple[str, ...]:
    """Return the words with this name in the declarations; none for `file` and unknown names."""
    # PERF: only completion needs these modules.
    from glance.cli.user.screen import columns
    from glance.identity import strategies
    from glance.image import conversion_job, listing
    from glance.image import fields as image_fields

    table: dict[str, Iterable[str]] = {
        "command": sorted(user_commands.COMMANDS),
        "shell": SCRIPTS,
        "strategy": strategies.STRATEGIES,
        "sort_key": sorted(listing.SORT_KEYS),
        "sort_dir": ("asc", "desc"),
        "columns": columns.ATTRIBUTES,
        "disk_format": image_fields.DISK_FORMATS,
        "container_format": image_fields.CONTAINER_FORMATS,
        "status": image_fields.STATUSES,
        "is_public": ("true", "false"),
        "compress": ("true", "false"),
        "force": ("true", "false"),
        "conversion_status": tuple(conversion_job.Status),
    }
    return tuple(table.get(kind or "", ()))


def commands() -> list[user_commands.Command]:
    """Return all commands in an order that does not depend on the order of imports."""
    return [user_commands.COMMANDS[name] for name in sorted(user_commands.COMMANDS)]


def offered(option: ProgramOption) -> tuple[str, ...]:
    """Return the words that may follow an option."""
    return option.choices or values(option.values)


def options_of(entry: user_commands.Command | None) -> list[ProgramOption]:
    """Return the options to offer for a command; without a command, those of every command."""
    everywhere = {*user_commands.CONNECTION, "verbose", "debug"}
    heeded = everywhere if entry is None else everywhere | set(entry.options)
    return [option for option in user_commands.OPTIONS if option.dest in heeded]


# -- bash ----------------------------------------------------------------------------------------

#: The part of each script that completes the file behind `<`, `>` and so on, with bash's words.
BASH_REDIRECTION = """\
    # The word behind a redirection is a file.
    local redirection='@(?([0-9])<|?([0-9&])>?([>|])|>&|<>)'
    if [[ $cur == $redirection || ${COMP_WORDS[COMP_CWORD - 1]} == $redirection ]]; then
        [[ $cur == $redirection ]] && cur=
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        compopt -o filenames 2>/dev/null
        return
    fi
"""

_BASH = """\
# Completion of glance for bash, made from its commands; see `glance help completion`.

_glance() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} key= command= words= i
    COMPREPLY=()

{redirection}
    # NAME=VALUE is three words here: a name, a sign and a value that may be empty.
    if [[ $cur == = ]]; then
        cur=
        key=${{COMP_WORDS[COMP_CWORD - 1]}}
    elif [[ ${{COMP_WORDS[COMP_CWORD - 1]}} == = ]]; then
        key=${{COMP_WORDS[COMP_CWORD - 2]}}
    fi

    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${{COMP_WORDS[i]}} in
            {with_value})
                [[ ${{COMP_WORDS[i + 1]}} == = ]] && ((i++))
                ((i++))
                # Without a sign, the value of an option is the word behind it.
                [[ -z $key ]] && ((i == COMP_CWORD)) && key=${{COMP_WORDS[COMP_CWORD - 1]}}
                ;;
            *[\\<\\>]|'>&'|'>|') ((i++)) ;;
            -*) ;;
            *) [[ -z $command ]] && command=${{COMP_WORDS[i]}} ;;
        esac
    done

    if [[ -n $key ]]; then
        case $key in
            {files})
                mapfile -t COMPREPLY < <(compgen -f -- "$cur")
                compopt -o filenames 2>/dev/null
                return
                ;;
{option_values}            *)
                case $command:$key in
{field_values}                esac
                ;;
        esac
    elif [[ $cur == -* ]]; then
        words='{common}'
        case $command in
{command_options}        esac
    elif [[ -z $command ]]; then
        words='{commands}'
    else
        case $command in
{command_words}        esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
    if [[ -z $key && ${{COMPREPLY[0]}} == *= ]]; then
        compopt -o nospace 2>/dev/null
    fi
}}

complete -F _glance glance
"""


def bash() -> str:
    """Return the script for bash."""
    valued = [option for option in user_commands.OPTIONS if option.kind is not None]
    files = [name for option in valued if option.values == "file" for name in option.names]
    option_values = ""
    for option in valued:
        if words := offered(option):
            option_values += (
                f"            {'|'.join(option.names)}) words='{' '.join(words)}' ;;\n"
            )
    field_values = ""
    for field in dict.fromkeys(name for entry in commands() for name in entry.fields):
        if words := values(field):
            names = "|".join(f"{e.name}:{field}" for e in commands() if field in e.fields)
            indent = " " * 20
            field_values += f"{indent}{names}) words='{' '.join(words)}' ;;\n"
    command_options = command_words = ""
    for entry in commands():
        if own := [name for o in options_of(entry) if o.dest in entry.options for name in o.names]:
            command_options += f"            {entry.name}) words+=' {' '.join(own)}' ;;\n"
        if words := (*(f"{field}=" for field in entry.fields), *values(entry.values)):
            command_words += f"            {entry.name}) words='{' '.join(words)}' ;;\n"
    common = ["-h", "--help", "--version"]
    common += [name for option in options_of(None) for name in option.names]
    return _BASH.format(
        redirection=BASH_REDIRECTION,
        with_value="|".join(name for option in valued for name in option.names),
        files="|".join(files),
        option_values=option_values,
        field_values=field_values,
        common=" ".join(common),
        command_options=command_options,
        commands=" ".join(sorted(user_commands.COMMANDS)),
        command_words=command_words,
    )


# -- zsh -----------------------------------------------------------------------------------------

_ZSH = """\
#compdef glance
# Completion of glance for zsh, made from its commands; see `glance help completion`.

_glance() {{
    local curcontext=$curcontext state line ret=1
    typeset -A opt_args
    local -a flags verbs
    flags=(
{options}    )
    verbs=(
{commands}    )

    # Options may stand anywhere, so the command is the first word that is none. With two colons
    # behind the asterisk, there would be none behind the command.
    _arguments -C -s $flags '1:command:->command' '*:argument:->argument' && ret=0
    case $state in
        command) _describe -t commands 'glance command' verbs && ret=0 ;;
        argument)
            case $line[1] in
{arguments}            esac
            ;;
    esac
    return ret
}}

_glance_fields() {{
    # NAME=VALUE: the names first, then the values of the name that stands before the sign.
    if compset -P '*='; then
        case ${{IPREFIX%=}} in
{field_values}            *) return 1 ;;
        esac
    else
        compadd -S '' -- "$@"
    fi
}}

_glance "$@"
"""


def zsh_quoted(text: str) -> str:
    """Return text that can stand between single quotes."""
    return text.replace("'", "'\\''")


def zsh_option(option: ProgramOption) -> list[str]:
    """Return the words that describe one option, one for each of its names, to _arguments."""
    help_text = option.help.replace("%default", str(option.default))
    for mark in "\\[]:":
        help_text = help_text.replace(mark, f"\\{mark}")
    names = option.names
    alone = f"({' '.join(names)})"
    value = ""
    if option.kind is not None:
        label = (option.metavar or "value").strip("[]").lower().replace("|", " or ")
        words = offered(option)
        action = "_files" if option.values == "file" else f"({' '.join(words)})" if words else " "
        value = f":{label}:{action}"
    specs = []
    for name in names:
        sign = "" if option.kind is None else "=" if name.startswith("--") else "+"
        specs.append(f"'{alone}{name}{sign}[{zsh_quoted(help_text)}]{zsh_quoted(value)}'")
    return specs


def zsh() -> str:
    """Return the script for zsh."""
    options = "        '(-h --help)'{-h,--help}'[Show the usage and exit.]'\n"
    options += "        '--version[Show the version and exit.]'\n"
    options += "".join(
        f"        {spec}\n" for option in user_commands.OPTIONS for spec in zsh_option(option)
    )
    verbs = "".join(
        f"        '{entry.name}:{zsh_quoted(entry.summary)}'\n" for entry in commands()
    )
    arguments = ""
    indent = " " * 16
    for entry in commands():
        if entry.fields:
            names = " ".join(f"{field}=" for field in entry.fields)
            arguments += f"{indent}{entry.name}) _glance_fields {names} && ret=0 ;;\n"
        elif entry.values:
            words = " ".join(values(entry.values))
            arguments += f"{indent}{entry.name}) compadd -- {words} && ret=0 ;;\n"
    fields = dict.fromkeys(name for e in commands() for name in e.fields)
    field_values = ""
    for field in fields:
        if words_of := values(field):
            field_values += f"            {field}) compadd -- {' '.join(words_of)} ;;\n"
    return _ZSH.format(
        options=options, commands=verbs, arguments=arguments, field_values=field_values
    )


# -- fish ----------------------------------------------------------------------------------------

#: The function that prints the words behind a program that are no options, in front of the cursor.
FISH_WORDS = """\
function {function}
    set -l skip 0
    for word in (commandline -opc)[2..-1]
        if test $skip = 1
            set skip 0
            continue
        end
        switch $word
            case {with_value}
                set skip 1
            case '-*'
            case '*'
                echo -- $word
        end
    end
end
"""

_FISH = """\
# Completion of glance for fish, made from its commands; see `glance help completion`.

{words}
function __glance_is -d 'Whether one of these commands stands in front of the cursor'
    set -l found (__glance_words)
    set -q found[1]; and contains -- $found[1] $argv
end

function __glance_is_bare -d 'Whether no command stands in front of the cursor'
    set -l found (__glance_words)
    not set -q found[1]
end

complete -c glance -f
{lines}"""


def fish_quoted(text: str) -> str:
    """Return text between single quotes, as fish reads it."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def fish_words(function: str, options: Iterable[ProgramOption]) -> str:
    """Return the function with this name, for a program with these options."""
    names = " ".join(
        name for option in options if option.kind is not None for name in option.names
    )
    return FISH_WORDS.format(function=function, with_value=names or "''")


def fish_option(program: str, option: ProgramOption, condition: str = "") -> str:
    """Return the line that describes an option to fish; `condition` is a command of its own."""
    names = " ".join(
        f"-{'l' if n.startswith('--') else 's'} {n.lstrip('-')}" for n in option.names
    )
    value = ""
    if option.kind is not None:
        words = offered(option)
        value = " -r -F" if option.values == "file" else " -x"
        value += f" -a {fish_quoted(' '.join(words))}" if words else ""
    where = f" -n {fish_quoted(condition)}" if condition else ""
    text = fish_quoted(option.help.replace("%default", str(option.default)))
    return f"complete -c {program}{where} {names}{value} -d {text}\n"


def fish() -> str:
    """Return the script for fish."""
    lines = "complete -c glance -s h -l help -d 'Show the usage and exit.'\n"
    lines += "complete -c glance -l version -d 'Show the version and exit.'\n"
    everywhere = options_of(None)
    for option in user_commands.OPTIONS:
        heeding = [entry.name for entry in commands() if option.dest in entry.options]
        condition = "" if option in everywhere else f"__glance_is {' '.join(heeding)}"
        lines += fish_option("glance", option, condition)
    for entry in commands():
        text = fish_quoted(entry.summary)
        lines += f"complete -c glance -n __glance_is_bare -a {entry.name} -d {text}\n"
    for entry in commands():
        words = [*values(entry.values)]
        for field in entry.fields:
            words += [f"{field}={word}" for word in values(field)] or [f"{field}="]
        if words:
            offer = fish_quoted(" ".join(words))
            lines += f"complete -c glance -n '__glance_is {entry.name}' -a {offer}\n"
    function = fish_words("__glance_words", user_commands.OPTIONS)
    return _FISH.format(words=function, lines=lines)


SCRIPTS: dict[str, Callable[[], str]] = {"bash": bash, "zsh": zsh, "fish": fish}


@user_commands.command(
    "completion",
    "<SHELL>",
    "Prints the completion script for a shell",
    group="Further Commands",
    values="shell",
    modern=True,
)
def completion(call: user_commands.CommandCall) -> int:
    """
    Prints the script with which a shell completes commands, options, fields and values of glance:

      bash:  source <(glance completion bash)
      zsh:   glance completion zsh > "${fpath[1]}/_glance"
      fish:  glance completion fish > ~/.config/fish/completions/glance.fish
    """
    if len(call.args) != 1 or call.args[0] not in SCRIPTS:
        raise console.CommandFailed(f"Please specify one shell: {' or '.join(SCRIPTS)}")
    print(SCRIPTS[call.args[0]](), end="")
    return 0
