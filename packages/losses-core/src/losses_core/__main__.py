"""`python -m losses_core`: the command line, see `_cli`."""

# PYTHON_ARGCOMPLETE_OK: the completion of a shell that is set up for all programs looks for this line

from losses_core._cli import main

if __name__ == "__main__":
    raise SystemExit(main())
