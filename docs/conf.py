"""Sphinx configuration."""

from __future__ import annotations

from analytics_sdk import __version__

project = "analytics_sdk"
author = "The analytics_sdk authors"
copyright = f"2026 {author}"  # noqa: A001  (Sphinx's name for it)
release = version = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]

autodoc_member_order = "bysource"
autodoc_typehints = "description"
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"{project} {release}"
