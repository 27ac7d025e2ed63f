"""Sphinx configuration. Everything is built off line: no network, no script from elsewhere."""

import sys
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE / "_ext")]

project = "losses"
author = "The losses contributors"
project_copyright = author
version = release = version("losses-core")  # the other packages carry their own numbers: see the changelogs

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
    "mathml",
    "loss_pages",
    "narrow_tables",
]
exclude_patterns = ["_build", "_generated", "examples"]
nitpicky = True
# Types of other libraries, which this site has no pages for.
nitpick_ignore_regex = [
    ("py:.*", r"(torch|typing|collections|numpy|inspect|types|os|pathlib)\..*"),
    ("py:.*", r"[\w.]*\bTensor"),
    (
        "py:class",
        r"(float|int|str|bool|None|dict|list|tuple|type|object|frozenset|TypeError|RuntimeError|Sequence|Mapping"
        r"|Callable|Iterator|Any|optional|PathLike|KeysView|ValuesView|ItemsView|Collection)",
    ),
    # type variables and aliases, and what is private
    ("py:class", r"([\w.]*\.)?(LossT|Shape|Config|Member|AnyLoss|Group|_\w+)(\.\w+)*"),
    ("py:exc", r"(TypeError|RuntimeError|ValueError|KeyError|ImportError)"),
]

myst_enable_extensions = ["attrs_block", "attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

default_role = "py:obj"  # `BaseLoss` in a docstring is a link; what is no name stays code, see loss_pages
add_module_names = False
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False
autoclass_content = "class"
python_maximum_signature_line_length = 80
napoleon_numpy_docstring = False
napoleon_custom_sections = ["Shape", "Returns"]  # Returns as text: ours begin with no type
napoleon_use_rtype = False
viewcode_line_numbers = True

html_theme = "furo"
html_title = f"losses {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
copybutton_prompt_text = r"\$ |>>> |\.\.\. "
copybutton_prompt_is_regexp = True
REPOSITORY = "https://github.com/losses-contributors/losses"
html_theme_options = {
    "navigation_with_keys": True,
    "source_repository": REPOSITORY,  # the link to edit a page
    "source_branch": "main",
    "source_directory": "docs/",
    "footer_icons": [{"name": "Repository", "url": REPOSITORY, "html": "Repository", "class": ""}],
}
pygments_style, pygments_dark_style = "tango", "github-dark"
