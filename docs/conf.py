"""How the documentation is built: ``sphinx-build -W docs docs/_build``."""

from importlib.metadata import version as _version

project = "tso3"
author = "The tso3 developers"
release = _version("tso3")
extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build"]
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3
numpydoc_show_class_members = False
autodoc_typehints = "none"
html_theme = "alabaster"
html_title = "tso3"
