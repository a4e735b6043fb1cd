# /// script
# requires-python = ">=3.11"
# dependencies = ["act_hf[train,plot]"]
#
# [tool.hf-jobs]
# flavor = "t4-small"
# timeout = "4h"
# secrets = ["HF_TOKEN"]
# ///
r"""
Estimate for every machine label the probability that it is wrong.

Another model than the one that annotated finds more errors.

```sh
hf jobs uv run hub_scripts/criticize.py user/tickets-labelled user/tickets-doubted \
    --model Qwen/Qwen3-8B --strategy logit
```

A server's key is a secret of the job: `--secrets ACT_HF_API_KEY` before the script. How act_hf
gets into the job: docs/how-to/hub.md.
"""

from act_hf.cli.on_hub import criticize, main


if __name__ == "__main__":
    main(criticize, __doc__)
