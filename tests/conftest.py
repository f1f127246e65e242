"""What all tests share: the same start for the processes they launch, whoever runs the tests."""

import signal

# A run under nohup hands an ignored SIGHUP on to every child, and a daemon that was started so
# goes on ignoring it.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
