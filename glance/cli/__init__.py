"""The programs. Only they patch sockets (see services) and read the command line."""
