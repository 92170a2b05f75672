"""`cg project turn`: a file for each command; `group.py` assembles them."""
