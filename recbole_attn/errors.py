"""What a user did wrong, said in one line."""


class UserError(Exception):
    """A mistake the user can mend.

    Its text is one line that names the setting, the value and the way out. The command line prints that line
    without a traceback and exits with code 2.
    """
