"""`python -m reconciler` and the fivrec command."""

import signal
import sys

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until main listens, a signal ends the process without a traceback

if {"watch", "serve", "worker", "schedule"} & set(sys.argv[1:3]):
    signal.signal(signal.SIGHUP, lambda *_: None)  # a request to read files again, also while importing

from reconciler.cli.collector import hold_off, leave

hold_off()

from reconciler.cli.main import main  # noqa: E402 (what is imported from here on is what it holds off from)


def run() -> None:
    """The fivrec command."""
    try:
        main()
    except SystemExit as end:
        if isinstance(end.code, int):
            leave(end.code)
        raise


if __name__ == "__main__":
    run()
