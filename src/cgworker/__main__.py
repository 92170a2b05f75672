"""`python -m cgworker` is `cg`."""

from cgworker.cli.app import main

if __name__ == "__main__":
    main()
