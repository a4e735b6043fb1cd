# /// script
# requires-python = ">=3.11"
# dependencies = ["act_hf[plot,argilla]"]
#
# [tool.hf-jobs]
# flavor = "cpu-basic"
# timeout = "30m"
# secrets = ["HF_TOKEN"]
# ///
r"""
Take people's answers back into the data set.

People may be at it meanwhile; again, it takes what is new.

```sh
hf jobs uv run hub_scripts/pull_review.py user/tickets-drawn user/tickets-review user/tickets-reviewed
hf jobs uv run -e ARGILLA_API_URL=https://host --secrets ARGILLA_API_KEY \
    hub_scripts/pull_review.py user/tickets-drawn argilla:team/tickets user/tickets-reviewed
```

How act_hf gets into the job: docs/how-to/hub.md.
"""

from act_hf.cli.on_hub import main, pull_review


if __name__ == "__main__":
    main(pull_review, __doc__)
