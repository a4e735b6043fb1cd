"""`python -m act_hf.cli`."""

from act_hf.cli import main


if __name__ == "__main__":
    main()
