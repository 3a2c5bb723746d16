"""Django's backend for PostgreSQL, for processes that must answer while the database does not."""
