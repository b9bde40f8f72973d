"""The one exception that the command line prints without a traceback."""


class UserError(Exception):
    """Something the person at the keyboard can mend.

    The message is one or two plain sentences: what is wrong, where (file, offset, line), and
    what to do about it. ``cli.main`` prints it on standard error and exits with 1.
    """
