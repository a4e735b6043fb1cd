"""The look of the review page: Gradio's theme with a paper-like ground, one accent, and the fonts of the system."""

from __future__ import annotations

from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from gradio.themes import Base

SANS = ("ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "Liberation Mono", "monospace")


def review_theme() -> Base:
    """The theme, light and dark. No font is fetched: a page about private rows loads nothing from elsewhere."""
    from gradio import themes

    theme = themes.Base(
        primary_hue=themes.colors.teal,
        secondary_hue=themes.colors.stone,
        neutral_hue=themes.colors.stone,
        radius_size=themes.sizes.radius_lg,
        spacing_size=themes.sizes.spacing_lg,
        text_size=themes.sizes.text_md,
        font=SANS,
        font_mono=MONO,
    )
    return theme.set(
        body_background_fill="#f6f4f0",
        body_background_fill_dark="#171513",
        body_text_color="#1c1917",
        body_text_color_dark="#f1eeea",
        body_text_color_subdued="#5e5852",
        body_text_color_subdued_dark="#b3aca4",
        background_fill_primary="#ffffff",
        background_fill_primary_dark="#221f1c",
        background_fill_secondary="#edeae4",
        background_fill_secondary_dark="#2c2825",
        border_color_primary="#dcd7cf",
        border_color_primary_dark="#403b36",
        color_accent="#0f766e",
        color_accent_soft="#e2f1ee",
        color_accent_soft_dark="#12332f",
        error_background_fill="#fdecea",
        error_background_fill_dark="#3d1a18",
        error_text_color="#9b1c1c",
        error_text_color_dark="#fca5a5",
    )
