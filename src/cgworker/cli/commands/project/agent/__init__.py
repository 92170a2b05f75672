"""`cg project agent`: a file for each command; `group.py` assembles them."""
