"""The kernel's routes, one file per noun; each ends with its list."""
