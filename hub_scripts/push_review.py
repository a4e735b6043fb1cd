# /// script
# requires-python = ">=3.11"
# dependencies = ["act_hf[argilla]"]
#
# [tool.hf-jobs]
# flavor = "cpu-basic"
# timeout = "30m"
# secrets = ["HF_TOKEN"]
# ///
r"""
Hand the rows drawn to people: in a Space on the data set REVIEW, or in Argilla.

Again, it adds what is new and keeps all answers.

```sh
hf jobs uv run hub_scripts/push_review.py user/tickets-drawn user/tickets-review
hf jobs uv run -e ARGILLA_API_URL=https://host --secrets ARGILLA_API_KEY \
    hub_scripts/push_review.py user/tickets-drawn argilla:team/tickets
```

How act_hf gets into the job, and how the Space is made: docs/how-to/hub.md.
"""

from act_hf.cli.on_hub import main, push_review


if __name__ == "__main__":
    main(push_review, __doc__)
