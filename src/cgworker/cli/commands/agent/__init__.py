"""`cg agent`: `group.py` holds the group, a file beside it each larger command."""
