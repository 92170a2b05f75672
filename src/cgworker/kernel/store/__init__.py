"""The kernel's store: SQL and the functions that run it; one file per noun, one statement per operation."""
