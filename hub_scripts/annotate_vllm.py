# /// script
# requires-python = ">=3.11"
# dependencies = ["act_hf[plot]"]
#
# [tool.hf-jobs]
# image = "vllm/vllm-openai:latest"
# flavor = "l4x1"
# timeout = "6h"
# secrets = ["HF_TOKEN"]
# ///
r"""
Give every row of a data set on the Hub a machine label. The model is served by vLLM in the job.

For those who have a GPU and no endpoint. What stands after `--` goes to `vllm serve`.

```sh
hf jobs uv run --flavor a100-large hub_scripts/annotate_vllm.py user/tickets user/tickets-labelled \
    --text text --labels billing,delivery,other --model Qwen/Qwen3-32B -- --max-model-len 8192
```

It needs the program `vllm`, which the image has. How act_hf gets into the job: docs/how-to/hub.md.
"""

from act_hf.cli.on_hub import annotate_vllm, main


if __name__ == "__main__":
    main(annotate_vllm, __doc__)
