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
    # When the Space is stopped, the last answers go to the Hub: by sys.exit, not in the middle of something.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    review = os.environ.get("ACT_HF_REVIEW")
    if not review:
        sys.exit("set the variable ACT_HF_REVIEW to the data set with the rows: user/tickets-review")
    space = None if os.environ.get("ACT_HF_PUBLIC") == "yes" else os.environ.get("SPACE_ID")
    folder = os.environ.get("ACT_HF_FOLDER") or (DISK if DISK.is_dir() else Path())
    try:
        serve_space(review, folder, space=space, per_row=int(os.environ.get("ACT_HF_PER_ROW", "1")))
    except ACTError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
