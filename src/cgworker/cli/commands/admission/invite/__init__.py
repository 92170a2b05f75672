"""`cg admission invite`: a file for each command; `group.py` assembles them."""
