# Completion of glance for fish, made from its commands; see `glance help completion`.

function __glance_words
    set -l skip 0
    for word in (commandline -opc)[2..-1]
        if test $skip = 1
            set skip 0
            continue
        end
        switch $word
            case -H --host -p --port --os-image-url --os-image-endpoint-override --ca-file --os-cacert --os-cert --os-key --timeout -A --auth_token --auth-token --os-auth-strategy --os-cloud --os-auth-url --os-auth-user --os-username --os-user-id --os-auth-key --os-password --os-auth-tenant --os-project-name --os-tenant-name --os-project-id --os-tenant-id --os-user-domain-name --os-user-domain-id --os-project-domain-name --os-project-domain-id --os-default-domain-id --os-default-domain --os-default-domain-name --os-domain-name --os-domain-id --os-trust-id --os-system-scope --os-token --os-application-credential-id --os-application-credential-name --os-application-credential-secret --os-auth-type --os-identity-api-version --os-region-name --os-interface --os-endpoint-type --limit --marker --sort_key --sort-key --sort_dir --sort-dir --format --columns --file --status
                set skip 1
            case '-*'
            case '*'
                echo -- $word
        end
    end
end

function __glance_is -d 'Whether one of these commands stands in front of the cursor'
    set -l found (__glance_words)
    set -q found[1]; and contains -- $found[1] $argv
end

function __glance_is_bare -d 'Whether no command stands in front of the cursor'
    set -l found (__glance_words)
    not set -q found[1]
end

complete -c glance -f
complete -c glance -s h -l help -d 'Show the usage and exit.'
complete -c glance -l version -d 'Show the version and exit.'
complete -c glance -s v -l verbose -d 'Print more details, and how long the command took.'
complete -c glance -s d -l debug -d 'Show errors with a traceback.'
complete -c glance -s H -l host -x -d 'Address of the Glance API server. Also GLANCE_HOST. Default: 0.0.0.0'
complete -c glance -s p -l port -x -d 'Port of the Glance API server. Also GLANCE_PORT. Default: 9292'
complete -c glance -l os-image-url -l os-image-endpoint-override -x -d 'URL of the Glance API server; overrides address and port, however they are given. Also OS_IMAGE_URL, OS_IMAGE_ENDPOINT_OVERRIDE.'
complete -c glance -l use-ssl -d 'Use https, and verify the server\'s certificate.'
complete -c glance -l ca-file -l os-cacert -r -F -d 'File of the CA certificates that the server\'s certificate is verified against. Also OS_CACERT.'
complete -c glance -l os-cert -r -F -d 'Client certificate. Also OS_CERT.'
complete -c glance -l os-key -r -F -d 'Private key of the client certificate. Also OS_KEY.'
complete -c glance -l insecure -d 'Do not verify the server\'s certificate.'
complete -c glance -l timeout -x -d 'Seconds to wait for the server before giving up.'
complete -c glance -s A -l auth_token -l auth-token -x -d 'Token to send, instead of authenticating. Also OS_AUTH_TOKEN.'
complete -c glance -l os-auth-strategy -x -a 'noauth keystone' -d 'Authentication strategy: noauth or keystone. Default: keystone if the options, or variables newer than Diablo\'s, name a user and an identity service, otherwise noauth. Also OS_AUTH_STRATEGY.'
complete -c glance -l os-cloud -x -d 'Entry of clouds.yaml with the credentials and the identity service. Also OS_CLOUD.'
complete -c glance -l os-auth-url -x -d 'URL of the identity service. Also OS_AUTH_URL.'
complete -c glance -l os-auth-user -l os-username -x -d 'User to authenticate as. Also OS_AUTH_USER, OS_USERNAME.'
complete -c glance -l os-user-id -x -d 'Id of the user. Also OS_USER_ID.'
complete -c glance -l os-auth-key -l os-password -x -d 'Password of the user; safer in the variable. Also OS_AUTH_KEY, OS_PASSWORD.'
complete -c glance -l os-auth-tenant -l os-project-name -l os-tenant-name -x -d 'Tenant, or project, to authenticate for. Also OS_AUTH_TENANT, OS_PROJECT_NAME, OS_TENANT_NAME.'
complete -c glance -l os-project-id -l os-tenant-id -x -d 'Id of the project. Also OS_PROJECT_ID, OS_TENANT_ID.'
complete -c glance -l os-user-domain-name -x -d 'Domain of the user. Also OS_USER_DOMAIN_NAME.'
complete -c glance -l os-user-domain-id -x -d 'Id of the user\'s domain. Also OS_USER_DOMAIN_ID.'
complete -c glance -l os-project-domain-name -x -d 'Domain of the project. Also OS_PROJECT_DOMAIN_NAME.'
complete -c glance -l os-project-domain-id -x -d 'Id of the project\'s domain. Also OS_PROJECT_DOMAIN_ID.'
complete -c glance -l os-default-domain-id -l os-default-domain -x -d 'Id of the domain of user and project if none is named. If this is not given either, it is default. Also OS_DEFAULT_DOMAIN_ID, OS_DEFAULT_DOMAIN.'
complete -c glance -l os-default-domain-name -x -d 'Name of that domain. Also OS_DEFAULT_DOMAIN_NAME.'
complete -c glance -l os-domain-name -x -d 'Domain to authenticate for. Also OS_DOMAIN_NAME.'
complete -c glance -l os-domain-id -x -d 'Id of the domain to authenticate for. Also OS_DOMAIN_ID.'
complete -c glance -l os-trust-id -x -d 'Trust to authenticate with. Also OS_TRUST_ID.'
complete -c glance -l os-system-scope -x -d 'The word all, to authenticate for the whole system. Also OS_SYSTEM_SCOPE.'
complete -c glance -l os-token -x -d 'Token to exchange for a new token. Without a URL of the identity service, the token to send. Also OS_TOKEN.'
complete -c glance -l os-application-credential-id -x -d 'Id of the application credential to authenticate with. Also OS_APPLICATION_CREDENTIAL_ID.'
complete -c glance -l os-application-credential-name -x -d 'Name of the application credential. Also OS_APPLICATION_CREDENTIAL_NAME.'
complete -c glance -l os-application-credential-secret -x -d 'Secret of the application credential; safer in the variable. Also OS_APPLICATION_CREDENTIAL_SECRET.'
complete -c glance -l os-auth-type -x -d 'Plug-in of keystoneauth to authenticate with. Also OS_AUTH_TYPE.'
complete -c glance -l os-identity-api-version -x -d 'Version of the identity API, if its URL names none. Also OS_IDENTITY_API_VERSION.'
complete -c glance -l os-region-name -x -d 'Region of the image service. Also OS_REGION_NAME.'
complete -c glance -l os-interface -l os-endpoint-type -x -d 'Interface of the image service: public (the default), internal or admin. Also OS_INTERFACE, OS_ENDPOINT_TYPE.'
complete -c glance -n '__glance_is conversions details index' -l limit -x -d 'Page size of index, details and conversions. Default: 10'
complete -c glance -n '__glance_is conversions details index' -l marker -x -d 'Id of the image, or conversion, after which a list begins.'
complete -c glance -n '__glance_is details index' -l sort_key -l sort-key -x -a 'container_format created_at disk_format id name size status updated_at' -d 'Attribute to sort by.'
complete -c glance -n '__glance_is details index' -l sort_dir -l sort-dir -x -a 'asc desc' -d 'Sort direction.'
complete -c glance -n '__glance_is add cache-incomplete cache-index cache-invalid cache-prefetching conversion-show conversions convert details image-members index member-images restore show update upload' -l format -x -a 'text json value' -d 'Output format: text for people, json for programs, or value for shell scripts: one line for each image, its values separated by tabs. Default: text'
complete -c glance -n '__glance_is details index show' -l long -d 'Show more of each image: status, visibility, owner and time in index; checksum, protection and times in show and details; UUID, tags and more of version 2 in show.'
complete -c glance -n '__glance_is details index show' -l columns -x -a 'id name status is_public protected disk_format container_format size checksum min_disk min_ram owner created_at updated_at deleted_at deleted location uri properties uuid visibility os_hidden tags os_hash_algo os_hash_value' -d 'What to show of each image: names of attributes and properties, separated by commas.'
complete -c glance -n '__glance_is details index' -l deleted -d 'List deleted images; for administrators only.'
complete -c glance -n '__glance_is details index show' -l human -d 'Show sizes with units in tables and blocks, such as 1.46 GiB.'
complete -c glance -n '__glance_is add download upload' -l file -r -F -d 'File to download to, or to upload from; - is standard input. Default: standard output, or standard input.'
complete -c glance -n '__glance_is cache-clear cache-purge cache-reap-invalid cache-reap-stalled clear conversions delete details index' -s f -l force -d 'Ask for no confirmation, and do not pause between pages.'
complete -c glance -n '__glance_is add cache-clear cache-prefetch cache-purge cache-reap-invalid cache-reap-stalled clear conversion-cancel convert delete download member-add member-delete members-replace restore update upload' -l dry-run -d 'Print what would be done, without doing it.'
complete -c glance -n '__glance_is convert' -l wait -d 'Wait until the conversion has ended.'
complete -c glance -n '__glance_is conversions' -l status -x -a 'queued running cancelling succeeded failed cancelled' -d 'List only the conversions in this state.'
complete -c glance -n '__glance_is member-add members-replace' -l can-share -d 'Allow the member to share the image with other members.'
complete -c glance -n '__glance_is update' -l keep-properties -d 'Keep the custom properties that an update does not name.'
complete -c glance -n __glance_is_bare -a add -d 'Adds a new image'
complete -c glance -n __glance_is_bare -a cache-clear -d 'Removes all images from the cache'
complete -c glance -n __glance_is_bare -a cache-incomplete -d 'Lists the cache entries that are being written'
complete -c glance -n __glance_is_bare -a cache-index -d 'Lists the images in the cache'
complete -c glance -n __glance_is_bare -a cache-invalid -d 'Lists the invalid cache entries'
complete -c glance -n __glance_is_bare -a cache-prefetch -d 'Prefetches images into the cache'
complete -c glance -n __glance_is_bare -a cache-prefetching -d 'Lists the images that are being prefetched'
complete -c glance -n __glance_is_bare -a cache-purge -d 'Removes an image from the cache'
complete -c glance -n __glance_is_bare -a cache-reap-invalid -d 'Removes the invalid cache entries'
complete -c glance -n __glance_is_bare -a cache-reap-stalled -d 'Removes the cache entries whose writing has stalled'
complete -c glance -n __glance_is_bare -a clear -d 'Deletes all images'
complete -c glance -n __glance_is_bare -a completion -d 'Prints the completion script for a shell'
complete -c glance -n __glance_is_bare -a conversion-cancel -d 'Cancels a conversion'
complete -c glance -n __glance_is_bare -a conversion-show -d 'Shows a conversion'
complete -c glance -n __glance_is_bare -a conversions -d 'Lists conversions'
complete -c glance -n __glance_is_bare -a convert -d 'Converts an image into another disk format'
complete -c glance -n __glance_is_bare -a delete -d 'Deletes an image'
complete -c glance -n __glance_is_bare -a details -d 'Lists images with all their metadata'
complete -c glance -n __glance_is_bare -a download -d 'Downloads the data of an image'
complete -c glance -n __glance_is_bare -a help -d 'Output help for one of the commands below'
complete -c glance -n __glance_is_bare -a image-members -d 'Lists the members an image is shared with'
complete -c glance -n __glance_is_bare -a index -d 'Lists images in a table'
complete -c glance -n __glance_is_bare -a member-add -d 'Shares an image with a member'
complete -c glance -n __glance_is_bare -a member-delete -d 'Stops sharing an image with a member'
complete -c glance -n __glance_is_bare -a member-images -d 'Lists the images shared with a member'
complete -c glance -n __glance_is_bare -a members-replace -d 'Shares an image with one member only'
complete -c glance -n __glance_is_bare -a restore -d 'Restores a deleted image'
complete -c glance -n __glance_is_bare -a show -d 'Shows the metadata of an image'
complete -c glance -n __glance_is_bare -a update -d 'Updates an image\'s metadata'
complete -c glance -n __glance_is_bare -a upload -d 'Uploads the data of a queued image'
complete -c glance -n '__glance_is add' -a 'name= is_public=true is_public=false disk_format=ami disk_format=ari disk_format=aki disk_format=vhd disk_format=vhdx disk_format=vmdk disk_format=raw disk_format=qcow2 disk_format=vdi disk_format=iso disk_format=ploop container_format=ami container_format=ari container_format=aki container_format=bare container_format=ovf container_format=ova container_format=docker container_format=compressed min_disk= min_ram= location= id= owner= store= checksum='
complete -c glance -n '__glance_is completion' -a 'bash zsh fish'
complete -c glance -n '__glance_is convert' -a 'disk_format=ami disk_format=ari disk_format=aki disk_format=vhd disk_format=vhdx disk_format=vmdk disk_format=raw disk_format=qcow2 disk_format=vdi disk_format=iso disk_format=ploop name= store= is_public=true is_public=false compress=true compress=false force=true force=false'
complete -c glance -n '__glance_is details' -a 'name= disk_format=ami disk_format=ari disk_format=aki disk_format=vhd disk_format=vhdx disk_format=vmdk disk_format=raw disk_format=qcow2 disk_format=vdi disk_format=iso disk_format=ploop container_format=ami container_format=ari container_format=aki container_format=bare container_format=ovf container_format=ova container_format=docker container_format=compressed status=queued status=saving status=uploading status=importing status=active status=deactivated status=killed status=pending_delete status=deleted min_ram= min_disk= size_min= size_max= is_public=true is_public=false'
complete -c glance -n '__glance_is help' -a 'add cache-clear cache-incomplete cache-index cache-invalid cache-prefetch cache-prefetching cache-purge cache-reap-invalid cache-reap-stalled clear completion conversion-cancel conversion-show conversions convert delete details download help image-members index member-add member-delete member-images members-replace restore show update upload'
complete -c glance -n '__glance_is index' -a 'name= disk_format=ami disk_format=ari disk_format=aki disk_format=vhd disk_format=vhdx disk_format=vmdk disk_format=raw disk_format=qcow2 disk_format=vdi disk_format=iso disk_format=ploop container_format=ami container_format=ari container_format=aki container_format=bare container_format=ovf container_format=ova container_format=docker container_format=compressed status=queued status=saving status=uploading status=importing status=active status=deactivated status=killed status=pending_delete status=deleted min_ram= min_disk= size_min= size_max= is_public=true is_public=false'
complete -c glance -n '__glance_is update' -a 'name= disk_format=ami disk_format=ari disk_format=aki disk_format=vhd disk_format=vhdx disk_format=vmdk disk_format=raw disk_format=qcow2 disk_format=vdi disk_format=iso disk_format=ploop container_format=ami container_format=ari container_format=aki container_format=bare container_format=ovf container_format=ova container_format=docker container_format=compressed min_disk= min_ram= location= owner= is_public=true is_public=false'
complete -c glance -n '__glance_is upload' -a 'checksum='
