"""`python -m reconciler` and the fivrec command."""

from reconciler.cli.collector import hold_off

hold_off()

from reconciler.cli.main import main  # noqa: E402 (what is imported from here on is what it holds off from)

if __name__ == "__main__":
    main()
