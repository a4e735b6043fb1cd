"""How `make docs` builds the site: Sphinx reads these names."""

import sys
import tomllib
from pathlib import Path


HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "building"), str(HERE.parent)]

project = "act_hf"
release = tomllib.loads((HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
extensions = ["myst_parser", "links", "reference", "commands"]
exclude_patterns = ["building"]
nitpicky = True  # a name in a docstring that is nowhere in the reference fails the build
myst_heading_anchors = 4
smartquotes = False  # options begin with two hyphens
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = "act_hf"
html_static_path = ["building/static"]
html_css_files = ["tables.css"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
