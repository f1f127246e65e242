"""Work on the whole database for operators: purge, check, copy, back up."""
