"""Where people look at rows, and how their answers come back."""
