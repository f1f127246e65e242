"""The registry's database: the only place of glance that knows SQL."""
