"""The programs. Only here are sockets patched (services) and is the command line read."""
