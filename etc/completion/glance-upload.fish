# Completion of glance-upload for fish, made from its declaration.

function __glance_upload_words
    set -l skip 0
    for word in (commandline -opc)[2..-1]
        if test $skip = 1
            set skip 0
            continue
        end
        switch $word
            case --host --port --type --disk-format --container-format --kernel --ramdisk --os-image-url --os-image-endpoint-override --ca-file --os-cacert --os-cert --os-key --timeout -A --auth_token --auth-token --os-auth-strategy --os-cloud --os-auth-url --os-auth-user --os-username --os-user-id --os-auth-key --os-password --os-auth-tenant --os-project-name --os-tenant-name --os-project-id --os-tenant-id --os-user-domain-name --os-user-domain-id --os-project-domain-name --os-project-domain-id --os-default-domain-id --os-default-domain --os-default-domain-name --os-domain-name --os-domain-id --os-trust-id --os-system-scope --os-token --os-application-credential-id --os-application-credential-name --os-application-credential-secret --os-auth-type --os-identity-api-version --os-region-name --os-interface --os-endpoint-type
                set skip 1
            case '-*'
            case '*'
                echo -- $word
        end
    end
end

complete -c glance-upload -f
complete -c glance-upload -s h -l help -d 'Show the usage and exit.'
complete -c glance-upload -l version -d 'Show the version and exit.'
complete -c glance-upload -l host -x -d 'Address of the Glance API server. Also GLANCE_HOST. Default: 127.0.0.1'
complete -c glance-upload -l port -x -d 'Port of the Glance API server. Also GLANCE_PORT. Default: 9292'
complete -c glance-upload -l type -x -d 'Value of the property type: kernel, ramdisk, machine or raw. Default: raw'
complete -c glance-upload -l disk-format -x -a 'ami ari aki vhd vhdx vmdk raw qcow2 vdi iso ploop' -d 'Disk format of the image.'
complete -c glance-upload -l container-format -x -a 'ami ari aki bare ovf ova docker compressed' -d 'Container format of the image.'
complete -c glance-upload -l kernel -x -d 'Kernel to boot the image with, stored as the property kernel_id.'
complete -c glance-upload -l ramdisk -x -d 'Ramdisk to boot the image with, stored as the property ramdisk_id.'
complete -c glance-upload -l os-image-url -l os-image-endpoint-override -x -d 'URL of the Glance API server; overrides address and port, however they are given. Also OS_IMAGE_URL, OS_IMAGE_ENDPOINT_OVERRIDE.'
complete -c glance-upload -l use-ssl -d 'Use https, and verify the server\'s certificate.'
complete -c glance-upload -l ca-file -l os-cacert -r -F -d 'File of the CA certificates that the server\'s certificate is verified against. Also OS_CACERT.'
complete -c glance-upload -l os-cert -r -F -d 'Client certificate. Also OS_CERT.'
complete -c glance-upload -l os-key -r -F -d 'Private key of the client certificate. Also OS_KEY.'
complete -c glance-upload -l insecure -d 'Do not verify the server\'s certificate.'
complete -c glance-upload -l timeout -x -d 'Seconds to wait for the server before giving up.'
complete -c glance-upload -s A -l auth_token -l auth-token -x -d 'Token to send, instead of authenticating. Also OS_AUTH_TOKEN.'
complete -c glance-upload -l os-auth-strategy -x -a 'noauth keystone' -d 'Authentication strategy: noauth or keystone. Default: keystone if the options, or variables newer than Diablo\'s, name a user and an identity service, otherwise noauth. Also OS_AUTH_STRATEGY.'
complete -c glance-upload -l os-cloud -x -d 'Entry of clouds.yaml with the credentials and the identity service. Also OS_CLOUD.'
complete -c glance-upload -l os-auth-url -x -d 'URL of the identity service. Also OS_AUTH_URL.'
complete -c glance-upload -l os-auth-user -l os-username -x -d 'User to authenticate as. Also OS_AUTH_USER, OS_USERNAME.'
complete -c glance-upload -l os-user-id -x -d 'Id of the user. Also OS_USER_ID.'
complete -c glance-upload -l os-auth-key -l os-password -x -d 'Password of the user; safer in the variable. Also OS_AUTH_KEY, OS_PASSWORD.'
complete -c glance-upload -l os-auth-tenant -l os-project-name -l os-tenant-name -x -d 'Tenant, or project, to authenticate for. Also OS_AUTH_TENANT, OS_PROJECT_NAME, OS_TENANT_NAME.'
complete -c glance-upload -l os-project-id -l os-tenant-id -x -d 'Id of the project. Also OS_PROJECT_ID, OS_TENANT_ID.'
complete -c glance-upload -l os-user-domain-name -x -d 'Domain of the user. Also OS_USER_DOMAIN_NAME.'
complete -c glance-upload -l os-user-domain-id -x -d 'Id of the user\'s domain. Also OS_USER_DOMAIN_ID.'
complete -c glance-upload -l os-project-domain-name -x -d 'Domain of the project. Also OS_PROJECT_DOMAIN_NAME.'
complete -c glance-upload -l os-project-domain-id -x -d 'Id of the project\'s domain. Also OS_PROJECT_DOMAIN_ID.'
complete -c glance-upload -l os-default-domain-id -l os-default-domain -x -d 'Id of the domain of user and project if none is named. If this is not given either, it is default. Also OS_DEFAULT_DOMAIN_ID, OS_DEFAULT_DOMAIN.'
complete -c glance-upload -l os-default-domain-name -x -d 'Name of that domain. Also OS_DEFAULT_DOMAIN_NAME.'
complete -c glance-upload -l os-domain-name -x -d 'Domain to authenticate for. Also OS_DOMAIN_NAME.'
complete -c glance-upload -l os-domain-id -x -d 'Id of the domain to authenticate for. Also OS_DOMAIN_ID.'
complete -c glance-upload -l os-trust-id -x -d 'Trust to authenticate with. Also OS_TRUST_ID.'
complete -c glance-upload -l os-system-scope -x -d 'The word all, to authenticate for the whole system. Also OS_SYSTEM_SCOPE.'
complete -c glance-upload -l os-token -x -d 'Token to exchange for a new token. Without a URL of the identity service, the token to send. Also OS_TOKEN.'
complete -c glance-upload -l os-application-credential-id -x -d 'Id of the application credential to authenticate with. Also OS_APPLICATION_CREDENTIAL_ID.'
complete -c glance-upload -l os-application-credential-name -x -d 'Name of the application credential. Also OS_APPLICATION_CREDENTIAL_NAME.'
complete -c glance-upload -l os-application-credential-secret -x -d 'Secret of the application credential; safer in the variable. Also OS_APPLICATION_CREDENTIAL_SECRET.'
complete -c glance-upload -l os-auth-type -x -d 'Plug-in of keystoneauth to authenticate with. Also OS_AUTH_TYPE.'
complete -c glance-upload -l os-identity-api-version -x -d 'Version of the identity API, if its URL names none. Also OS_IDENTITY_API_VERSION.'
complete -c glance-upload -l os-region-name -x -d 'Region of the image service. Also OS_REGION_NAME.'
complete -c glance-upload -l os-interface -l os-endpoint-type -x -d 'Interface of the image service: public (the default), internal or admin. Also OS_INTERFACE, OS_ENDPOINT_TYPE.'
complete -c glance-upload -n 'test (__glance_upload_words | count) -eq 0' -F
