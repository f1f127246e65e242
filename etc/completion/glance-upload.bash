# Completion of glance-upload for bash, made from its declaration.

_glance_upload() {
    local cur=${COMP_WORDS[COMP_CWORD]} key= words= place=0 i
    COMPREPLY=()

    # --option=value is three words here: a name, a sign and a value that may be empty.
    if [[ $cur == = ]]; then
        cur=
        key=${COMP_WORDS[COMP_CWORD - 1]}
    elif [[ ${COMP_WORDS[COMP_CWORD - 1]} == = ]]; then
        key=${COMP_WORDS[COMP_CWORD - 2]}
    fi

    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
            --host|--port|--type|--disk-format|--container-format|--kernel|--ramdisk|--ca-file|--timeout|-A|--auth_token|--auth-token|--os-auth-user|--os-auth-key|--os-auth-tenant|--os-auth-url|--os-auth-strategy)
                [[ ${COMP_WORDS[i + 1]} == = ]] && ((i++))
                ((i++))
                # Without a sign, the value of an option is the word behind it.
                [[ -z $key ]] && ((i == COMP_CWORD)) && key=${COMP_WORDS[COMP_CWORD - 1]}
                ;;
            -*) ;;
            *) ((place++)) ;;
        esac
    done

    if [[ -n $key ]]; then
        case $key in
            --disk-format) words='ami ari aki vhd vmdk raw qcow2 vdi iso' ;;
            --container-format) words='ami ari aki bare ovf' ;;
            --ca-file) ;;
            --os-auth-strategy) words='noauth keystone' ;;
            *) return ;;
        esac
    elif [[ $cur == -* ]]; then
        words='-h --help --version --host --port --type --disk-format --container-format --kernel --ramdisk --use-ssl --ca-file --insecure --timeout -A --auth_token --auth-token --os-auth-user --os-auth-key --os-auth-tenant --os-auth-url --os-auth-strategy'
    else
        case $place in
            0) ;;
            *) return ;;
        esac
    fi
    if [[ -n $words ]]; then
        COMPREPLY=($(compgen -W "$words" -- "$cur"))
    else
        COMPREPLY=($(compgen -f -- "$cur"))
        compopt -o filenames 2>/dev/null
    fi
}

complete -F _glance_upload glance-upload
