"""The commands of `cg`: `commands/<word>.py` holds the command `<word>`."""
