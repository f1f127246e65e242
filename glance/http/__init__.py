"""HTTP as both sides speak it: `server` and `client`, and beside them what the two share."""
