# Completion of glance-upload for bash, made from its declaration.

_glance_upload() {
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
            --host|--port|--type|--disk-format|--container-format|--kernel|--ramdisk|--os-image-url|--os-image-endpoint-override|--ca-file|--os-cacert|--os-cert|--os-key|--timeout|-A|--auth_token|--auth-token|--os-auth-strategy|--os-cloud|--os-auth-url|--os-auth-user|--os-username|--os-user-id|--os-auth-key|--os-password|--os-auth-tenant|--os-project-name|--os-tenant-name|--os-project-id|--os-tenant-id|--os-user-domain-name|--os-user-domain-id|--os-project-domain-name|--os-project-domain-id|--os-default-domain-id|--os-default-domain|--os-default-domain-name|--os-domain-name|--os-domain-id|--os-trust-id|--os-system-scope|--os-token|--os-application-credential-id|--os-application-credential-name|--os-application-credential-secret|--os-auth-type|--os-identity-api-version|--os-region-name|--os-interface|--os-endpoint-type)
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
            --disk-format) words='ami ari aki vhd vhdx vmdk raw qcow2 vdi iso ploop' ;;
            --container-format) words='ami ari aki bare ovf ova docker compressed' ;;
            --ca-file|--os-cacert) ;;
            --os-cert) ;;
            --os-key) ;;
            --os-auth-strategy) words='noauth keystone' ;;
            *) return ;;
        esac
    elif [[ $cur == -* ]]; then
        words='-h --help --version --host --port --type --disk-format --container-format --kernel --ramdisk --os-image-url --os-image-endpoint-override --use-ssl --ca-file --os-cacert --os-cert --os-key --insecure --timeout -A --auth_token --auth-token --os-auth-strategy --os-cloud --os-auth-url --os-auth-user --os-username --os-user-id --os-auth-key --os-password --os-auth-tenant --os-project-name --os-tenant-name --os-project-id --os-tenant-id --os-user-domain-name --os-user-domain-id --os-project-domain-name --os-project-domain-id --os-default-domain-id --os-default-domain --os-default-domain-name --os-domain-name --os-domain-id --os-trust-id --os-system-scope --os-token --os-application-credential-id --os-application-credential-name --os-application-credential-secret --os-auth-type --os-identity-api-version --os-region-name --os-interface --os-endpoint-type'
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

complete -F _glance_upload glance-upload
