# Completion of glance-control for fish, made from its declaration.

function __glance_control_words
    set -l skip 0
    for word in (commandline -opc)[2..-1]
        if test $skip = 1
            set skip 0
            continue
        end
        switch $word
            case --config-file --pid-file
                set skip 1
            case '-*'
            case '*'
                echo -- $word
        end
    end
end

complete -c glance-control -f
complete -c glance-control -s h -l help -d 'Show the usage and exit.'
complete -c glance-control -l version -d 'Show the version and exit.'
complete -c glance-control -s v -l verbose -d 'Log at INFO level instead of WARNING.'
complete -c glance-control -s d -l debug -d 'Log at DEBUG level.'
complete -c glance-control -l config-file -r -F -d 'Configuration file to use.'
complete -c glance-control -l pid-file -r -F -d 'File of the server\'s process id. Default: /var/run/glance/glance-<SERVER>.pid, or a file in ~/.glance/run if that directory is not writable.'
complete -c glance-control -n 'test (__glance_control_words | count) -eq 0' -a all -d 'all servers'
complete -c glance-control -n 'test (__glance_control_words | count) -eq 0' -a api -d 'glance-api'
complete -c glance-control -n 'test (__glance_control_words | count) -eq 0' -a registry -d 'glance-registry'
complete -c glance-control -n 'test (__glance_control_words | count) -eq 0' -a scrubber -d 'glance-scrubber'
complete -c glance-control -n 'test (__glance_control_words | count) -eq 0' -a converter -d 'glance-converter'
complete -c glance-control -n 'test (__glance_control_words | count) -eq 1' -a start -d 'start the server, and wait until it is ready'
complete -c glance-control -n 'test (__glance_control_words | count) -eq 1' -a stop -d 'stop the server; running requests have some seconds to finish'
complete -c glance-control -n 'test (__glance_control_words | count) -eq 1' -a shutdown -d 'stop the server after its running requests have finished'
complete -c glance-control -n 'test (__glance_control_words | count) -eq 1' -a restart -d 'stop the server, then start it'
complete -c glance-control -n 'test (__glance_control_words | count) -eq 1' -a reload -d 'start a new process while the old one finishes its running requests'
complete -c glance-control -n 'test (__glance_control_words | count) -eq 1' -a force-reload -d 'the same as reload'
complete -c glance-control -n 'test (__glance_control_words | count) -eq 1' -a status -d 'tell whether the server is running (exit code 3 if not)'
complete -c glance-control -n 'test (__glance_control_words | count) -eq 2' -F
