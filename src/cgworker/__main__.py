"""Run `cg` by `python -m cgworker`."""

from cgworker.cli.app import main

if __name__ == "__main__":
    main()
