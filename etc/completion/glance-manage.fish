# Completion of glance-manage for fish, made from its declaration.

function __glance_manage_words
    set -l skip 0
    for word in (commandline -opc)[2..-1]
        if test $skip = 1
            set skip 0
            continue
        end
        switch $word
            case --config-file --log-config --log-format --log-date-format --log-file --log-dir --sql-connection --sql_connection --age-in-days --max-rows --store-config-file --older-than --format --to-config-file
                set skip 1
            case '-*'
            case '*'
                echo -- $word
        end
    end
end

complete -c glance-manage -f
complete -c glance-manage -s h -l help -d 'Show the usage and exit.'
complete -c glance-manage -l version -d 'Show the version and exit.'
complete -c glance-manage -s v -l verbose -d 'Log at INFO level instead of WARNING.'
complete -c glance-manage -s d -l debug -d 'Log at DEBUG level.'
complete -c glance-manage -l config-file -r -F -d 'Configuration file to use.'
complete -c glance-manage -l log-config -r -F -d 'Configuration file for Python\'s logging package; it overrides all other logging options.'
complete -c glance-manage -l log-format -x -d 'Format of a log line.'
complete -c glance-manage -l log-date-format -x -d 'Format of the time in a log line.'
complete -c glance-manage -l log-file -r -F -d 'File to log to.'
complete -c glance-manage -l log-dir -r -F -d 'Directory of the log file.'
complete -c glance-manage -l use-syslog -d 'Log to syslog.'
complete -c glance-manage -l sql-connection -l sql_connection -x -d 'Database to work on, as a SQLAlchemy URL. Default: the registry\'s sql_connection.'
complete -c glance-manage -l age-in-days -x -d 'Minimum number of days since the deletion of an image. Default: 30'
complete -c glance-manage -l max-rows -x -d 'Maximum number of images to remove, with their properties and members. Default: 100'
complete -c glance-manage -l store-config-file -r -F -d 'Configuration file of glance-scrubber or glance-api, which names the stores. Default: the first of these two that is found in the usual places.'
complete -c glance-manage -l older-than -x -d 'Minimum age, in seconds, of data without a record. Younger data may belong to an upload in progress. Default: 86400'
complete -c glance-manage -l delete -d 'With orphans, remove the data without a record that was found. Without this option, nothing is changed.'
complete -c glance-manage -l format -x -a 'table json' -d 'Output format of check and orphans.'
complete -c glance-manage -l records-only -d 'Check the database only, not the image data.'
complete -c glance-manage -l repair -d 'Remove rows whose image does not exist, and data without a record. Without this option, nothing is changed.'
complete -c glance-manage -l to-config-file -r -F -d 'Configuration file of the registry that will use the copy; its sql_connection names the target. Use this instead of TO, so that no password is on the command line.'
complete -c glance-manage -l overwrite -d 'Remove all rows of the target first. Without this option, the target must be empty.'
complete -c glance-manage -n 'test (__glance_manage_words | count) -eq 0' -a db_version -d 'Print the version of the schema'
complete -c glance-manage -n 'test (__glance_manage_words | count) -eq 0' -a version_control -d 'Put the database under version control, at version 0'
complete -c glance-manage -n 'test (__glance_manage_words | count) -eq 0' -a upgrade -d 'Upgrade the schema to VERSION, or to the latest'
complete -c glance-manage -n 'test (__glance_manage_words | count) -eq 0' -a downgrade -d 'Downgrade the schema to VERSION'
complete -c glance-manage -n 'test (__glance_manage_words | count) -eq 0' -a db_sync -d 'Create or change the tables, up to schema version VERSION or the latest'
complete -c glance-manage -n 'test (__glance_manage_words | count) -eq 0' -a db_purge -d 'Remove the records of images deleted N days ago or earlier, at most M'
complete -c glance-manage -n 'test (__glance_manage_words | count) -eq 0' -a check -d 'Compare records, their properties and members, and image data; report what does not fit'
complete -c glance-manage -n 'test (__glance_manage_words | count) -eq 0' -a copy_database -d 'Copy the database to the empty one at the URL TO, of any kind, and verify the copy'
complete -c glance-manage -n 'test (__glance_manage_words | count) -eq 0' -a backup -d 'Write a verified copy of the SQLite database to FILE, while the services run'
complete -c glance-manage -n 'test (__glance_manage_words | count) -eq 0' -a orphans -d 'List data without a record, and records without their data'
complete -c glance-manage -n 'test (__glance_manage_words | count) -eq 0' -a restore -d 'Restore the deleted image ID, if its data has not been removed yet'
complete -c glance-manage -n 'test (__glance_manage_words | count) -eq 0' -a encrypt_locations -d 'Encrypt all locations with metadata_encryption_key, or decrypt them if it is not set'
complete -c glance-manage -n 'test (__glance_manage_words | count) -eq 0' -a rewrite_locations -d 'Rewrite the locations of older releases in the current form'
complete -c glance-manage -n 'test (__glance_manage_words | count) -eq 0' -a import_scrubber_datadir -d 'Add the files in DIR, the scrubber_datadir of Essex, to the scrub queue'
