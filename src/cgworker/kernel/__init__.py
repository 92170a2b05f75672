"""The kernel: the authority over turns, served over HTTP and kept in PostgreSQL."""
