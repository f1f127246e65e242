"""Starting, stopping and watching the daemons."""
