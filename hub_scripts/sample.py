# /// script
# requires-python = ">=3.11"
# dependencies = ["act_hf[plot]"]
#
# [tool.hf-jobs]
# flavor = "cpu-basic"
# timeout = "30m"
# secrets = ["HF_TOKEN"]
# ///
r"""
Choose the rows that people look at, by how doubtful their labels are.

```sh
hf jobs uv run hub_scripts/sample.py user/tickets-doubted user/tickets-drawn --budget 10%
```

How act_hf gets into the job: docs/how-to/hub.md.
"""

from act_hf.cli.on_hub import main, sample


if __name__ == "__main__":
    main(sample, __doc__)
