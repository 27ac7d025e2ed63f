"""`python -m losses_core`: the command line, see `_cli`."""

from losses_core._cli import main

if __name__ == "__main__":
    raise SystemExit(main())
