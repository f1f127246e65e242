# Completion of glance-cache-manage for fish, made from its declaration.

function __glance_cache_manage_words
    set -l skip 0
    for word in (commandline -opc)[2..-1]
        if test $skip = 1
            set skip 0
            continue
        end
        switch $word
            case -H --host -p --port --os-image-url --os-image-endpoint-override --ca-file --os-cacert --os-cert --os-key --timeout -A --auth_token --auth-token --os-auth-strategy --os-cloud --os-auth-url --os-auth-user --os-username --os-user-id --os-auth-key --os-password --os-auth-tenant --os-project-name --os-tenant-name --os-project-id --os-tenant-id --os-user-domain-name --os-user-domain-id --os-project-domain-name --os-project-domain-id --os-default-domain-id --os-default-domain --os-default-domain-name --os-domain-name --os-domain-id --os-trust-id --os-system-scope --os-token --os-application-credential-id --os-application-credential-name --os-application-credential-secret --os-auth-type --os-identity-api-version --os-region-name --os-interface --os-endpoint-type --config-file
                set skip 1
            case '-*'
            case '*'
                echo -- $word
        end
    end
end

complete -c glance-cache-manage -f
complete -c glance-cache-manage -s h -l help -d 'Show the usage and exit.'
complete -c glance-cache-manage -l version -d 'Show the version and exit.'
complete -c glance-cache-manage -s v -l verbose -d 'Print what was done.'
complete -c glance-cache-manage -s d -l debug -d 'Show errors with a traceback.'
complete -c glance-cache-manage -s f -l force -d 'Ask for no confirmation.'
complete -c glance-cache-manage -l json -d 'Print results as JSON.'
complete -c glance-cache-manage -s H -l host -x -d 'Address of the Glance API server. Also GLANCE_HOST. Default: 0.0.0.0'
complete -c glance-cache-manage -s p -l port -x -d 'Port of the Glance API server. Also GLANCE_PORT. Default: 9292'
complete -c glance-cache-manage -l os-image-url -l os-image-endpoint-override -x -d 'URL of the Glance API server; overrides address and port, however they are given. Also OS_IMAGE_URL, OS_IMAGE_ENDPOINT_OVERRIDE.'
complete -c glance-cache-manage -l use-ssl -d 'Use https, and verify the server\'s certificate.'
complete -c glance-cache-manage -l ca-file -l os-cacert -r -F -d 'File of the CA certificates that the server\'s certificate is verified against. Also OS_CACERT.'
complete -c glance-cache-manage -l os-cert -r -F -d 'Client certificate. Also OS_CERT.'
complete -c glance-cache-manage -l os-key -r -F -d 'Private key of the client certificate. Also OS_KEY.'
complete -c glance-cache-manage -s k -l insecure -d 'Do not verify the server\'s certificate.'
complete -c glance-cache-manage -l timeout -x -d 'Seconds to wait for the server before giving up.'
complete -c glance-cache-manage -s A -l auth_token -l auth-token -x -d 'Token to send, instead of authenticating. Also OS_AUTH_TOKEN.'
complete -c glance-cache-manage -l os-auth-strategy -x -a 'noauth keystone' -d 'Authentication strategy: noauth or keystone. Default: keystone if the options, or variables newer than Diablo\'s, name a user and an identity service, otherwise noauth. Also OS_AUTH_STRATEGY.'
complete -c glance-cache-manage -l os-cloud -x -d 'Entry of clouds.yaml with the credentials and the identity service. Also OS_CLOUD.'
complete -c glance-cache-manage -l os-auth-url -x -d 'URL of the identity service. Also OS_AUTH_URL.'
complete -c glance-cache-manage -l os-auth-user -l os-username -x -d 'User to authenticate as. Also OS_AUTH_USER, OS_USERNAME.'
complete -c glance-cache-manage -l os-user-id -x -d 'Id of the user. Also OS_USER_ID.'
complete -c glance-cache-manage -l os-auth-key -l os-password -x -d 'Password of the user; safer in the variable. Also OS_AUTH_KEY, OS_PASSWORD.'
complete -c glance-cache-manage -l os-auth-tenant -l os-project-name -l os-tenant-name -x -d 'Tenant, or project, to authenticate for. Also OS_AUTH_TENANT, OS_PROJECT_NAME, OS_TENANT_NAME.'
complete -c glance-cache-manage -l os-project-id -l os-tenant-id -x -d 'Id of the project. Also OS_PROJECT_ID, OS_TENANT_ID.'
complete -c glance-cache-manage -l os-user-domain-name -x -d 'Domain of the user. Also OS_USER_DOMAIN_NAME.'
complete -c glance-cache-manage -l os-user-domain-id -x -d 'Id of the user\'s domain. Also OS_USER_DOMAIN_ID.'
complete -c glance-cache-manage -l os-project-domain-name -x -d 'Domain of the project. Also OS_PROJECT_DOMAIN_NAME.'
complete -c glance-cache-manage -l os-project-domain-id -x -d 'Id of the project\'s domain. Also OS_PROJECT_DOMAIN_ID.'
complete -c glance-cache-manage -l os-default-domain-id -l os-default-domain -x -d 'Id of the domain of user and project if none is named. If this is not given either, it is default. Also OS_DEFAULT_DOMAIN_ID, OS_DEFAULT_DOMAIN.'
complete -c glance-cache-manage -l os-default-domain-name -x -d 'Name of that domain. Also OS_DEFAULT_DOMAIN_NAME.'
complete -c glance-cache-manage -l os-domain-name -x -d 'Domain to authenticate for. Also OS_DOMAIN_NAME.'
complete -c glance-cache-manage -l os-domain-id -x -d 'Id of the domain to authenticate for. Also OS_DOMAIN_ID.'
complete -c glance-cache-manage -l os-trust-id -x -d 'Trust to authenticate with. Also OS_TRUST_ID.'
complete -c glance-cache-manage -l os-system-scope -x -d 'The word all, to authenticate for the whole system. Also OS_SYSTEM_SCOPE.'
complete -c glance-cache-manage -l os-token -x -d 'Token to exchange for a new token. Without a URL of the identity service, the token to send. Also OS_TOKEN.'
complete -c glance-cache-manage -l os-application-credential-id -x -d 'Id of the application credential to authenticate with. Also OS_APPLICATION_CREDENTIAL_ID.'
complete -c glance-cache-manage -l os-application-credential-name -x -d 'Name of the application credential. Also OS_APPLICATION_CREDENTIAL_NAME.'
complete -c glance-cache-manage -l os-application-credential-secret -x -d 'Secret of the application credential; safer in the variable. Also OS_APPLICATION_CREDENTIAL_SECRET.'
complete -c glance-cache-manage -l os-auth-type -x -d 'Plug-in of keystoneauth to authenticate with. Also OS_AUTH_TYPE.'
complete -c glance-cache-manage -l os-identity-api-version -x -d 'Version of the identity API, if its URL names none. Also OS_IDENTITY_API_VERSION.'
complete -c glance-cache-manage -l os-region-name -x -d 'Region of the image service. Also OS_REGION_NAME.'
complete -c glance-cache-manage -l os-interface -l os-endpoint-type -x -d 'Interface of the image service: public (the default), internal or admin. Also OS_INTERFACE, OS_ENDPOINT_TYPE.'
complete -c glance-cache-manage -l config-file -r -F -d 'Configuration file with the options of the image cache and of the registry. Default: glance-cache.conf or glance-api.conf in the usual places.'
complete -c glance-cache-manage -n 'test (__glance_cache_manage_words | count) -eq 0' -a list-cached -d 'List the images that are complete in the cache'
complete -c glance-cache-manage -n 'test (__glance_cache_manage_words | count) -eq 0' -a list-invalid -d 'List the invalid entries, with their errors'
complete -c glance-cache-manage -n 'test (__glance_cache_manage_words | count) -eq 0' -a list-incomplete -d 'List the entries that are being written'
complete -c glance-cache-manage -n 'test (__glance_cache_manage_words | count) -eq 0' -a list-queued -d 'List the images that the prefetcher is fetching or is to fetch'
complete -c glance-cache-manage -n 'test (__glance_cache_manage_words | count) -eq 0' -a queue-image -d 'Queue images (ID ...) for the prefetcher'
complete -c glance-cache-manage -n 'test (__glance_cache_manage_words | count) -eq 0' -a delete-cached-image -d 'Remove one image (ID) from the cache'
complete -c glance-cache-manage -n 'test (__glance_cache_manage_words | count) -eq 0' -a delete-all-cached-images -d 'Remove all images from the cache'
complete -c glance-cache-manage -n 'test (__glance_cache_manage_words | count) -eq 0' -a delete-queued-image -d 'Remove one image (ID) from the queue, unless it is being fetched'
complete -c glance-cache-manage -n 'test (__glance_cache_manage_words | count) -eq 0' -a delete-all-queued-images -d 'Remove all images from the queue, except those that are being fetched'
complete -c glance-cache-manage -n 'test (__glance_cache_manage_words | count) -eq 0' -a reap-invalid -d 'Remove the invalid entries at once'
complete -c glance-cache-manage -n 'test (__glance_cache_manage_words | count) -eq 0' -a reap-stalled -d 'Remove the entries whose writing has stalled'
complete -c glance-cache-manage -n 'test (__glance_cache_manage_words | count) -eq 0' -a stats -d 'Print sizes in bytes, numbers of entries, and counters'
complete -c glance-cache-manage -n 'test (__glance_cache_manage_words | count) -eq 0' -a verify -d 'Verify all entries on this host; those that have changed become invalid'
complete -c glance-cache-manage -n 'test (__glance_cache_manage_words | count) -eq 0' -a rebuild-index -d 'Rebuild the index on this host, from the files that match their records'
