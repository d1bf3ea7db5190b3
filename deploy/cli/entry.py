"""Where the program starts: signals first, so that none is lost while the rest is imported."""

import sys


def main() -> int:
    """Run the command line; returns the exit status."""
    from spikeship.deploy.verbs import interrupts

    interrupts.listen()
    try:
        from spikeship.deploy.cli.app import main as run

        return run()
    except KeyboardInterrupt:  # while something was imported, or while cleaning up
        return interrupts.end()
    except Exception:
        if interrupts.received():  # a library that was being loaded made an error of it
            return interrupts.end()
        raise


if __name__ == "__main__":
    sys.exit(main())
