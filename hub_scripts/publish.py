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
Copy the outcome to where others find it, with a card that says how its labels were made; and a model trained on it.

Names of those who reviewed are in the rows (`act_responses`). `--public` shows them to everybody.

```sh
hf jobs uv run hub_scripts/publish.py user/tickets-reviewed user/tickets-corrected --model user/tickets-model
```

How act_hf gets into the job: docs/how-to/hub.md.
"""

from act_hf.cli.on_hub import main, publish


if __name__ == "__main__":
    main(publish, __doc__)
