# Completion of glance-inspect for fish, made from its declaration.

function __glance_inspect_words
    set -l skip 0
    for word in (commandline -opc)[2..-1]
        if test $skip = 1
            set skip 0
            continue
        end
        switch $word
            case --disk-format --max-virtual-size --format
                set skip 1
            case '-*'
            case '*'
                echo -- $word
        end
    end
end

complete -c glance-inspect -f
complete -c glance-inspect -s h -l help -d 'Show the usage and exit.'
complete -c glance-inspect -l version -d 'Show the version and exit.'
complete -c glance-inspect -l disk-format -x -a 'ami ari aki vhd vhdx vmdk raw qcow2 vdi iso ploop' -d 'Disk format that the images are said to have; an image in another one is refused.'
complete -c glance-inspect -l max-virtual-size -x -d 'Refuse an image whose virtual disk has more than this many bytes.'
complete -c glance-inspect -l format -x -a 'text json' -d 'How to print the result: text, or one JSON array. Default: text'
complete -c glance-inspect -n 'test (__glance_inspect_words | count) -ge 0' -F
