"""Pictures of every registered loss: its value and its gradient against what it depends on.

In `docs`, `python -m gallery [FOLDER] [--only NAME …] [--format svg|png]` writes two pictures per loss, one for light
pages and one for dark ones. The build of the site runs it. The tables of the families say for each loss what is varied.
A loss without an entry is drawn along the path of its example; without that it is an error, as is an entry without a
loss.
"""

from gallery.drawing import THEMES, generate
from gallery.table import TABLE, gaps, registered

__all__ = ["TABLE", "THEMES", "gaps", "generate", "registered"]
