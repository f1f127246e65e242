"""HTTP: `server`, `client`, and the modules that both share."""
