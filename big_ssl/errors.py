"""How big_ssl stops: each exception is one exit code of the command line."""

DONE, FAILED, WRONG_INPUT, DIVERGED, PREEMPTED = 0, 1, 2, 3, 75


class InputError(Exception):
    """The user's input is wrong (exit 2); the message is one line that names file, row or key."""


class Diverged(Exception):
    """Training produced a loss that is not finite (exit 3); the last good checkpoint is kept."""


class RunsFailed(Exception):
    """Runs of a study crashed (exit 1); the others are done and collected."""


class Preempted(Exception):
    """The process was asked to stop and has saved (exit 75); run the same command again."""
