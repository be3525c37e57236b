"""The error that the command line shows as one message instead of a traceback."""


class MisError(Exception):
    """Something the user can mend. The text names the file (and line) and the remedy."""
