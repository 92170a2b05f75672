"""Kill a worker with SIGKILL at each step between the end of a handler and the end of its turn.

A step is a line of the worker's own code that runs from the handler's return on, in any thread. `make crash`
kills at every step of every story, about five hundred times; the gate kills at a few.
"""
