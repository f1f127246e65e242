"""The repository of schema changes, in the layout of sqlalchemy-migrate.

`versions/NNN_*.py` holds one step each with `upgrade` and `downgrade`; `schema` says what the
tables look like at each version; `operations` is how a step changes a table on each database.
"""
