"""Tests of examples/deploy: what is there is checked by the tools that it is for."""
