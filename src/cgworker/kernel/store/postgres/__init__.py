"""PostgreSQL: connecting, migrating, and the embedded server."""
