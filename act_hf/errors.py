"""The one error a user can cause. The command line prints it as a single line; everything else is a bug."""


class ACTError(ValueError):
    """A wrong argument, file or data set. The message names the bad value and the choices there were."""


def printable(text: str) -> str:
    """`text` without what could move the cursor or colour the terminal: what a row or a file says is not trusted."""
    return "".join(sign if sign.isprintable() else " " for sign in text)
