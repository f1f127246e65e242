# Completion of glance-scrubber for fish, made from its declaration.

function __glance_scrubber_words
    set -l skip 0
    for word in (commandline -opc)[2..-1]
        if test $skip = 1
            set skip 0
            continue
        end
        switch $word
            case --config-file --log-config --log-format --log-date-format --log-file --log-dir --restore
                set skip 1
            case '-*'
            case '*'
                echo -- $word
        end
    end
end

complete -c glance-scrubber -f
complete -c glance-scrubber -s h -l help -d 'Show the usage and exit.'
complete -c glance-scrubber -l version -d 'Show the version and exit.'
complete -c glance-scrubber -s v -l verbose -d 'Log at INFO level instead of WARNING.'
complete -c glance-scrubber -s d -l debug -d 'Log at DEBUG level.'
complete -c glance-scrubber -l config-file -r -F -d 'Configuration file to use.'
complete -c glance-scrubber -l log-config -r -F -d 'Configuration file for Python\'s logging package; it overrides all other logging options.'
complete -c glance-scrubber -l log-format -x -d 'Format of a log line.'
complete -c glance-scrubber -l log-date-format -x -d 'Format of the time in a log line.'
complete -c glance-scrubber -l log-file -r -F -d 'File to log to.'
complete -c glance-scrubber -l log-dir -r -F -d 'Directory of the log file.'
complete -c glance-scrubber -l use-syslog -d 'Log to syslog.'
complete -c glance-scrubber -s D -l daemon -d 'Keep running until stopped.'
complete -c glance-scrubber -l list -d 'Make no pass; print the queue: each image, when it is due (UTC), the number of attempts and the last error.'
complete -c glance-scrubber -l restore -x -d 'Make no pass; restore the deleted image with this ID, which becomes active again. Its data must not have been removed yet.'
complete -c glance-scrubber -l retry -d 'Before the pass, make all images due that failed before or were given up.'
complete -c glance-scrubber -n 'test (__glance_scrubber_words | count) -eq 0' -F
