"""`cg turn`: `group.py` holds the group, a file beside it each larger command."""
