"""Completion of the programs other than `glance`, made from their declarations.

`glance.cli.docs.pages` writes the scripts to etc/completion for packages; the shells load them
by the name of the program. The completion of `glance` is in `glance.cli.user.completion`.

Each script is whole, although those for bash have most lines in common: bash-completion finds a
script by the name of the program alone, packages and users install single ones anywhere, and a
file of shared functions would be one more path to find from there.
"""

from __future__ import annotations

from collections.abc import Sequence

from glance.cli.option import ProgramOption
from glance.cli.program import Program, Word
from glance.cli.user import completion

_HELP = ("-h", "--help", "--version")

_BASH = """\
# Completion of {name} for bash, made from its declaration.

{function}() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} key= words= place=0 i
    COMPREPLY=()

{redirection}
    # --option=value is three words here: a name, a sign and a value that may be empty.
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
            *) ((place++)) ;;
        esac
    done

    if [[ -n $key ]]; then
        case $key in
{values}            *) return ;;
        esac
    elif [[ $cur == -* ]]; then
        words='{options}'
    else
        case $place in
{words}            *) return ;;
        esac
    fi
    if [[ -n $words ]]; then
        COMPREPLY=($(compgen -W "$words" -- "$cur"))
    else
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        compopt -o filenames 2>/dev/null
    fi
}}

complete -F {function} {name}
"""


def bash(program: Program) -> str:
    """Return the script for bash."""
    valued = [option for option in program.options if option.kind is not None]
    indent = " " * 12
    values = "".join(
        f"{indent}{'|'.join(option.names)}) {_set(completion.offered(option))};;\n"
        for option in valued
        if _is_known(option)
    )
    words = "".join(
        f"{indent}{'*' if word.is_repeated else place}) {_set(_offered(word))};;\n"
        for place, word in enumerate(program.words)
        if _is_known(word)
    )
    return _BASH.format(
        redirection=completion.BASH_REDIRECTION,
        name=program.name,
        function=_function(program),
        with_value="|".join(name for option in valued for name in option.names),
        values=values,
        options=" ".join([*_HELP, *(n for option in program.options for n in option.names)]),
        words=words,
    )


def _function(program: Program) -> str:
    return f"_{program.name.replace('-', '_')}"


def _set(words: Sequence[str]) -> str:
    """Return shell code that offers words; without words, the script offers files."""
    return f"words='{' '.join(words)}' " if words else ""


def _offered(word: Word) -> tuple[str, ...]:
    return tuple(word.choices) or completion.values(word.values)


def _is_known(argument: ProgramOption | Word) -> bool:
    """Return whether there are words or files to offer."""
    return bool(argument.choices or argument.values)


_ZSH = """\
#compdef {name}
# Completion of {name} for zsh, made from its declaration.

_arguments -s \\
{lines}
"""


def zsh(program: Program) -> str:
    """Return the script for zsh."""
    lines = [
        "'(-h --help)'{-h,--help}'[Show the usage and exit.]'",
        "'--version[Show the version and exit.]'",
    ]
    for option in program.options:
        lines += completion.zsh_option(option)
    lines += [_zsh_word(place, word) for place, word in enumerate(program.words, 1)]
    return _ZSH.format(name=program.name, lines=" \\\n".join(f"    {line}" for line in lines))


def _zsh_word(place: int, word: Word) -> str:
    action = " "
    if word.choices:
        rows = " ".join(f'{name}\\:"{text}"' for name, text in word.choices.items())
        action = f"(({completion.zsh_quoted(rows)}))"
    elif offered := _offered(word):
        action = f"({' '.join(offered)})"
    elif word.values == "file":
        action = "_files"
    where = "*" if word.is_repeated else place
    return f"'{where}:{word.label}:{action}'"


_FISH = """\
# Completion of {name} for fish, made from its declaration.

{words}
complete -c {name} -f
complete -c {name} -s h -l help -d 'Show the usage and exit.'
complete -c {name} -l version -d 'Show the version and exit.'
{lines}"""


def fish(program: Program) -> str:
    """Return the script for fish."""
    function = f"_{_function(program)}_words"
    lines = "".join(completion.fish_option(program.name, option) for option in program.options)
    for place, word in enumerate(program.words):
        # A word that may be repeated stands in its own place and in all behind it.
        comparison = "-ge" if word.is_repeated else "-eq"
        where = f"test ({function} | count) {comparison} {place}"
        start = f"complete -c {program.name} -n {completion.fish_quoted(where)}"
        if word.choices:
            for name, text in word.choices.items():
                lines += f"{start} -a {name} -d {completion.fish_quoted(text)}\n"
        elif offered := _offered(word):
            lines += f"{start} -a {completion.fish_quoted(' '.join(offered))}\n"
        elif word.values == "file":
            lines += f"{start} -F\n"
    words = completion.fish_words(function, program.options)
    return _FISH.format(name=program.name, words=words, lines=lines)
