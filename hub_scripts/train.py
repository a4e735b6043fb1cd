# /// script
# requires-python = ">=3.11"
# dependencies = ["act_hf[train]"]
#
# [tool.hf-jobs]
# flavor = "t4-small"
# timeout = "2h"
# secrets = ["HF_TOKEN"]
# ///
r"""
Train a classifier on machine and human labels together, with the ACT loss.

```sh
hf jobs uv run hub_scripts/train.py user/tickets-reviewed user/tickets-model \
    --base FacebookAI/roberta-base --evaluation user/tickets-tested
```

How act_hf gets into the job: docs/how-to/hub.md.
"""

from act_hf.cli.on_hub import main, train


if __name__ == "__main__":
    main(train, __doc__)
