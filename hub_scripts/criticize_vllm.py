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
Estimate for every machine label the probability that it is wrong. The model is served by vLLM in the job.

For those who have a GPU and no endpoint. What stands after `--` goes to `vllm serve`.

```sh
hf jobs uv run --flavor a100-large hub_scripts/criticize_vllm.py user/tickets-labelled user/tickets-doubted \
    --model google/gemma-3-27b-it --strategy cot_logit -- --max-model-len 8192
```

It needs the program `vllm`, which the image has. How act_hf gets into the job: docs/how-to/hub.md.
"""

from act_hf.cli.on_hub import criticize_vllm, main


if __name__ == "__main__":
    main(criticize_vllm, __doc__)
