"""The command `miner`: a search that a warm server can answer needs nothing loaded; everything else is `jobs.cli`."""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point."""
    words = sys.argv[1:]
    if words[:1] == ["search"] and "--no-server" not in words:
        from jobs.warm import answered

        code = answered(words)
        if code is not None:
            sys.exit(code)
    from jobs.cli import main as run

    run()


if __name__ == "__main__":
    main()
