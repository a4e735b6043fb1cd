"""A job by batch, to be killed: `python -m support.batch_job URL STORE OUT ROWS`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from act_hf.annotators import annotate
from act_hf.models.batch import BatchEndpoint
from act_hf.models.endpoint import Endpoint
from support.endpoint_job import TASK, rows


def main() -> None:
    url, store, out, count = sys.argv[1:]
    model = BatchEndpoint(Endpoint("m", base_url=url), poll=(0.05, 0.05), journal=f"{store}.batches")
    labelled = annotate(rows(int(count)), TASK, model, store=store)
    columns = {name: labelled[name][:] for name in labelled.column_names}
    part = Path(out + ".part")
    part.write_text(json.dumps(columns))
    os.replace(part, out)


if __name__ == "__main__":
    main()
