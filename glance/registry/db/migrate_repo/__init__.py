"""The repository of schema migrations, in the layout of sqlalchemy-migrate.

`versions/NNN_*.py` holds one step each with `upgrade` and `downgrade`; `schema` defines the tables
at each version; `operations` changes a table on each kind of database.
"""
