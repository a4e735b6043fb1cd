"""The Gradio app of a review page. How it is served, here or in a Space, is another matter."""

from __future__ import annotations

import os
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from act_hf.errors import ACTError
from act_hf.review.page.view import Reviewing, View


if TYPE_CHECKING:
    from gradio import Blocks


def build_app(reviewing: Reviewing) -> Blocks:
    """
    The app as Gradio has it. It is one component, drawn by `page.js`, that asks `reviewing`.

    Args:
        reviewing ([`Reviewing`]): the review to show.

    Returns:
        `gradio.Blocks`: to be launched or mounted with the options of [`look`].

    Raises:
        ACTError: where Gradio is not installed.
    """
    gradio = import_gradio()

    def ask(request: Any) -> View:
        return reviewing.ask(request)

    # A review is about private rows: no figures about its use leave the machine.
    app: Blocks = gradio.Blocks(title="Review", analytics_enabled=False, fill_width=True)
    with app:
        gradio.HTML(
            value="",
            html_template='<div id="act" aria-busy="true"></div>',
            js_on_load=_file("page.js"),
            apply_default_css=False,
            server_functions=[ask],
        )
    return app


def look() -> dict[str, Any]:
    """The options of `launch` and `mount_gradio_app` that make the page look as it should, and keep it to itself."""
    from act_hf.review.page.theme import review_theme

    return {
        "theme": review_theme(),
        "css": _file("page.css"),
        "footer_links": [],
        "run_history": False,
        "ssr_mode": False,
        "pwa": False,
        "mcp_server": False,
        "enable_monitoring": False,
        "max_file_size": 1,
    }


def import_gradio() -> Any:
    """Gradio, told to call nobody. Raises [`ACTError`] where it is not installed."""
    os.environ.update(GRADIO_ANALYTICS_ENABLED="False", HF_HUB_DISABLE_TELEMETRY="1")
    try:
        import gradio
    except ModuleNotFoundError as error:
        raise ACTError("the review page needs Gradio: pip install 'gradio>=6.31'") from error
    return gradio


def _file(name: str) -> str:
    return (files("act_hf.review.page") / name).read_text(encoding="utf-8")
