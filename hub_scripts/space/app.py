"""The review page as a Space: it shows the rows of a data set on the Hub, and keeps people's answers there."""

import os
import signal
import sys
from pathlib import Path

from act_hf.errors import ACTError
from act_hf.review.page.space import serve_space


DISK = Path("/data")  # there where the Space has a disk that outlives a restart


def main() -> None:
    """What the settings of the Space say is in the environment."""
    # When the Space is stopped, the last answers go to the Hub.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    setting = os.environ.get
    review = setting("ACT_HF_REVIEW")
    if not review:
        sys.exit("set the variable ACT_HF_REVIEW to the data set with the rows: user/tickets-review")
    serve_space(
        review,
        setting("ACT_HF_FOLDER") or (DISK if DISK.is_dir() else Path()),
        space=None if setting("ACT_HF_PUBLIC") == "yes" else setting("SPACE_ID"),
        per_row=int(setting("ACT_HF_PER_ROW", "1")),
        every=float(setting("ACT_HF_MINUTES", "1")),
    )


if __name__ == "__main__":
    try:
        main()
    except ACTError as error:
        sys.exit(str(error))
