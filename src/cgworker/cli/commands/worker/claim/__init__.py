"""`cg worker claim`: a file for each command; `group.py` assembles them."""
