"""What travels between a client and the kernel: frozen attrs classes, one file per noun.

The classes know nothing of JSON; `wire.converter` turns them into it and back.
"""
