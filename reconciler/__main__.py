"""`python -m reconciler` and the fivrec command."""

from reconciler.cli.main import main

if __name__ == "__main__":
    main()
