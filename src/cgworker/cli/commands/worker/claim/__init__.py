"""`cg worker claim`: `group.py` holds the group, a file beside it each larger command."""
