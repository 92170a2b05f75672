"""The command line `cg`: thin on the library, one module per first word of a command."""
