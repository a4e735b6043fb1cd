"""The one error a user can cause. The command line prints it as a single line; everything else is a bug."""


class ACTError(ValueError):
    """A wrong argument, file or data set. The message names the bad value and the choices there were."""
