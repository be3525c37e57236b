"""The error that the command line shows as one message instead of a traceback."""


class MisError(Exception):
    """Something the user can mend. The text names the file (and line) and the remedy.

    `status` is the exit status of the command that it ends: 2, a mistake; 1 where a part was done.
    """

    status = 2
