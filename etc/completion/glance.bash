# Completion of glance for bash, made from its commands; see `glance help completion`.

_glance() {
    local cur=${COMP_WORDS[COMP_CWORD]} key= command= words= i
    COMPREPLY=()

    # The word behind a redirection is a file.
    local redirection='@(?([0-9])<|?([0-9&])>?([>|])|>&|<>)'
    if [[ $cur == $redirection || ${COMP_WORDS[COMP_CWORD - 1]} == $redirection ]]; then
        [[ $cur == $redirection ]] && cur=
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        compopt -o filenames 2>/dev/null
        return
    fi

    # NAME=VALUE is three words here: a name, a sign and a value that may be empty.
    if [[ $cur == = ]]; then
        cur=
        key=${COMP_WORDS[COMP_CWORD - 1]}
    elif [[ ${COMP_WORDS[COMP_CWORD - 1]} == = ]]; then
        key=${COMP_WORDS[COMP_CWORD - 2]}
    fi

    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
            -H|--host|-p|--port|--os-image-url|--os-image-endpoint-override|--ca-file|--os-cacert|--os-cert|--os-key|--timeout|-A|--auth_token|--auth-token|--os-auth-strategy|--os-cloud|--os-auth-url|--os-auth-user|--os-username|--os-user-id|--os-auth-key|--os-password|--os-auth-tenant|--os-project-name|--os-tenant-name|--os-project-id|--os-tenant-id|--os-user-domain-name|--os-user-domain-id|--os-project-domain-name|--os-project-domain-id|--os-default-domain-id|--os-default-domain|--os-default-domain-name|--os-domain-name|--os-domain-id|--os-trust-id|--os-system-scope|--os-token|--os-application-credential-id|--os-application-credential-name|--os-application-credential-secret|--os-auth-type|--os-identity-api-version|--os-region-name|--os-interface|--os-endpoint-type|--limit|--marker|--sort_key|--sort-key|--sort_dir|--sort-dir|--format|--columns|--file|--status)
                [[ ${COMP_WORDS[i + 1]} == = ]] && ((i++))
                ((i++))
                # Without a sign, the value of an option is the word behind it.
                [[ -z $key ]] && ((i == COMP_CWORD)) && key=${COMP_WORDS[COMP_CWORD - 1]}
                ;;
            *[\<\>]|'>&'|'>|') ((i++)) ;;
            -*) ;;
            *) [[ -z $command ]] && command=${COMP_WORDS[i]} ;;
        esac
    done

    if [[ -n $key ]]; then
        case $key in
            --ca-file|--os-cacert|--os-cert|--os-key|--file)
                mapfile -t COMPREPLY < <(compgen -f -- "$cur")
                compopt -o filenames 2>/dev/null
                return
                ;;
            --os-auth-strategy) words='noauth keystone' ;;
            --sort_key|--sort-key) words='container_format created_at disk_format id name size status updated_at' ;;
            --sort_dir|--sort-dir) words='asc desc' ;;
            --format) words='text json value' ;;
            --columns) words='id name status is_public protected disk_format container_format size checksum min_disk min_ram owner created_at updated_at deleted_at deleted location uri properties uuid visibility os_hidden tags os_hash_algo os_hash_value' ;;
            --status) words='queued running cancelling succeeded failed cancelled' ;;
            *)
                case $command:$key in
                    add:is_public|convert:is_public|details:is_public|index:is_public|update:is_public) words='true false' ;;
                    add:disk_format|convert:disk_format|details:disk_format|index:disk_format|update:disk_format) words='ami ari aki vhd vhdx vmdk raw qcow2 vdi iso ploop' ;;
                    add:container_format|details:container_format|index:container_format|update:container_format) words='ami ari aki bare ovf ova docker compressed' ;;
                    convert:compress) words='true false' ;;
                    convert:force) words='true false' ;;
                    details:status|index:status) words='queued saving uploading importing active deactivated killed pending_delete deleted' ;;
                esac
                ;;
        esac
    elif [[ $cur == -* ]]; then
        words='-h --help --version -v --verbose -d --debug -H --host -p --port --os-image-url --os-image-endpoint-override --use-ssl --ca-file --os-cacert --os-cert --os-key --insecure --timeout -A --auth_token --auth-token --os-auth-strategy --os-cloud --os-auth-url --os-auth-user --os-username --os-user-id --os-auth-key --os-password --os-auth-tenant --os-project-name --os-tenant-name --os-project-id --os-tenant-id --os-user-domain-name --os-user-domain-id --os-project-domain-name --os-project-domain-id --os-default-domain-id --os-default-domain --os-default-domain-name --os-domain-name --os-domain-id --os-trust-id --os-system-scope --os-token --os-application-credential-id --os-application-credential-name --os-application-credential-secret --os-auth-type --os-identity-api-version --os-region-name --os-interface --os-endpoint-type'
        case $command in
            add) words+=' --format --file --dry-run' ;;
            cache-clear) words+=' -f --force --dry-run' ;;
            cache-incomplete) words+=' --format' ;;
            cache-index) words+=' --format' ;;
            cache-invalid) words+=' --format' ;;
            cache-prefetch) words+=' --dry-run' ;;
            cache-prefetching) words+=' --format' ;;
            cache-purge) words+=' -f --force --dry-run' ;;
            cache-reap-invalid) words+=' -f --force --dry-run' ;;
            cache-reap-stalled) words+=' -f --force --dry-run' ;;
            clear) words+=' -f --force --dry-run' ;;
            conversion-cancel) words+=' --dry-run' ;;
            conversion-show) words+=' --format' ;;
            conversions) words+=' --limit --marker --format -f --force --status' ;;
            convert) words+=' --format --dry-run --wait' ;;
            delete) words+=' -f --force --dry-run' ;;
            details) words+=' --limit --marker --sort_key --sort-key --sort_dir --sort-dir --format --long --columns --deleted --human -f --force' ;;
            download) words+=' --file --dry-run' ;;
            image-members) words+=' --format' ;;
            index) words+=' --limit --marker --sort_key --sort-key --sort_dir --sort-dir --format --long --columns --deleted --human -f --force' ;;
            member-add) words+=' --dry-run --can-share' ;;
            member-delete) words+=' --dry-run' ;;
            member-images) words+=' --format' ;;
            members-replace) words+=' --dry-run --can-share' ;;
            restore) words+=' --format --dry-run' ;;
            show) words+=' --format --long --columns --human' ;;
            update) words+=' --format --dry-run --keep-properties' ;;
            upload) words+=' --format --file --dry-run' ;;
        esac
    elif [[ -z $command ]]; then
        words='add cache-clear cache-incomplete cache-index cache-invalid cache-prefetch cache-prefetching cache-purge cache-reap-invalid cache-reap-stalled clear completion conversion-cancel conversion-show conversions convert delete details download help image-members index member-add member-delete member-images members-replace restore show update upload'
    else
        case $command in
            add) words='name= is_public= disk_format= container_format= min_disk= min_ram= location= id= owner= store= checksum=' ;;
            completion) words='bash zsh fish' ;;
            convert) words='disk_format= name= store= is_public= compress= force=' ;;
            details) words='name= disk_format= container_format= status= min_ram= min_disk= size_min= size_max= is_public=' ;;
            help) words='add cache-clear cache-incomplete cache-index cache-invalid cache-prefetch cache-prefetching cache-purge cache-reap-invalid cache-reap-stalled clear completion conversion-cancel conversion-show conversions convert delete details download help image-members index member-add member-delete member-images members-replace restore show update upload' ;;
            index) words='name= disk_format= container_format= status= min_ram= min_disk= size_min= size_max= is_public=' ;;
            update) words='name= disk_format= container_format= min_disk= min_ram= location= owner= is_public=' ;;
            upload) words='checksum=' ;;
        esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
    if [[ -z $key && ${COMPREPLY[0]} == *= ]]; then
        compopt -o nospace 2>/dev/null
    fi
}

complete -F _glance glance
