"""The one error a user can cause. The command line prints it as a single line; everything else is a bug."""


class ACTError(ValueError):
    """A wrong argument, file or data set. The message names the bad value and the choices there were."""


def printable(text: str) -> str:
    """`text` without what could move the cursor or colour the terminal: what a row or a file says is not trusted."""
    return "".join(sign if sign.isprintable() else " " for sign in text)


def one_line(error: Exception) -> str:
    """The first line of what an error says, or its kind."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
