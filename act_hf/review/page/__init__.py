"""A page on this machine where people review: a file that keeps rows and answers, and a Gradio app that shows it."""
