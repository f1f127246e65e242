# Completion of glance-converter for fish, made from its declaration.

function __glance_converter_words
    set -l skip 0
    for word in (commandline -opc)[2..-1]
        if test $skip = 1
            set skip 0
            continue
        end
        switch $word
            case --config-file --log-config --log-format --log-date-format --log-file --log-dir
                set skip 1
            case '-*'
            case '*'
                echo -- $word
        end
    end
end

complete -c glance-converter -f
complete -c glance-converter -s h -l help -d 'Show the usage and exit.'
complete -c glance-converter -l version -d 'Show the version and exit.'
complete -c glance-converter -s v -l verbose -d 'Log at INFO level instead of WARNING.'
complete -c glance-converter -s d -l debug -d 'Log at DEBUG level.'
complete -c glance-converter -l config-file -r -F -d 'Configuration file to use.'
complete -c glance-converter -l log-config -r -F -d 'Configuration file for Python\'s logging package; it overrides all other logging options.'
complete -c glance-converter -l log-format -x -d 'Format of a log line.'
complete -c glance-converter -l log-date-format -x -d 'Format of the time in a log line.'
complete -c glance-converter -l log-file -r -F -d 'File to log to.'
complete -c glance-converter -l log-dir -r -F -d 'Directory of the log file.'
complete -c glance-converter -l use-syslog -d 'Log to syslog.'
complete -c glance-converter -n 'test (__glance_converter_words | count) -eq 0' -F
