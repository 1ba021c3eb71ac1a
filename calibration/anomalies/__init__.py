"""Synthetic defects: `draw` puts one on a panel, `sheet` shows every kind.

`shapes` and `textures` say where a defect lies, `kinds` how strong it is and what each light makes of it, `lights` what
the channels' names tell.
"""

from calibration.anomalies.contact_sheet import sheet
from calibration.anomalies.drawing import KINDS, LEAST_CHANGE, Drawn, draw

__all__ = ["KINDS", "LEAST_CHANGE", "Drawn", "draw", "sheet"]
