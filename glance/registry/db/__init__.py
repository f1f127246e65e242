"""The registry's database: the only part of glance that knows SQL."""
