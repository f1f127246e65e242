# Completion of glance-converter for bash, made from its declaration.

_glance_converter() {
    local cur=${COMP_WORDS[COMP_CWORD]} key= words= place=0 i
    COMPREPLY=()

    # The word behind a redirection is a file.
    local redirection='@(?([0-9])<|?([0-9&])>?([>|])|>&|<>)'
    if [[ $cur == $redirection || ${COMP_WORDS[COMP_CWORD - 1]} == $redirection ]]; then
        [[ $cur == $redirection ]] && cur=
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        compopt -o filenames 2>/dev/null
        return
    fi

    # --option=value is three words here: a name, a sign and a value that may be empty.
    if [[ $cur == = ]]; then
        cur=
        key=${COMP_WORDS[COMP_CWORD - 1]}
    elif [[ ${COMP_WORDS[COMP_CWORD - 1]} == = ]]; then
        key=${COMP_WORDS[COMP_CWORD - 2]}
    fi

    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
            --config-file|--log-config|--log-format|--log-date-format|--log-file|--log-dir)
                [[ ${COMP_WORDS[i + 1]} == = ]] && ((i++))
                ((i++))
                # Without a sign, the value of an option is the word behind it.
                [[ -z $key ]] && ((i == COMP_CWORD)) && key=${COMP_WORDS[COMP_CWORD - 1]}
                ;;
            *[\<\>]|'>&'|'>|') ((i++)) ;;
            -*) ;;
            *) ((place++)) ;;
        esac
    done

    if [[ -n $key ]]; then
        case $key in
            --config-file) ;;
            --log-config) ;;
            --log-file) ;;
            --log-dir) ;;
            *) return ;;
        esac
    elif [[ $cur == -* ]]; then
        words='-h --help --version -v --verbose -d --debug --config-file --log-config --log-format --log-date-format --log-file --log-dir --use-syslog'
    else
        case $place in
            0) ;;
            *) return ;;
        esac
    fi
    if [[ -n $words ]]; then
        COMPREPLY=($(compgen -W "$words" -- "$cur"))
    else
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        compopt -o filenames 2>/dev/null
    fi
}

complete -F _glance_converter glance-converter
