"""The benchmarks: one module per row of docs/benchmarks.md, each with its peer beside it, in alternation.

`python -m benchmarks.closed_turns` measures one row and prints one line of JSON; `python -m benchmarks` runs
them all and writes the page. None of them is part of the gate: what a shared machine can do says nothing
about a change. What a change may cost is counted, not timed, in the tests.
"""
