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
Give every row of a data set on the Hub a machine label.

The model runs in the job, or behind a server that you name (`--base-url`, `--provider`). Try
`--max-samples 100` first.

```sh
hf jobs uv run hub_scripts/annotate.py user/tickets user/tickets-labelled \
    --text text --labels billing,delivery,other --model Qwen/Qwen2.5-7B-Instruct --calibration batch
```

A server's key is a secret of the job: `--secrets ACT_HF_API_KEY` before the script. How act_hf
gets into the job: docs/how-to/hub.md.
"""

from act_hf.cli.on_hub import annotate, main


if __name__ == "__main__":
    main(annotate, __doc__)
