"""Wire types: what a client and a kernel send each other, as frozen attrs classes, one file per noun.

The classes know nothing of JSON; `wire.converter` converts them to JSON and back.
"""
