"""Tables: reading them from files of any format, scaling them, and dealing their rows out."""

from __future__ import annotations

__all__ = ["SCALES", "Scaling", "Table", "assign_parts", "fit_scaling", "read_table", "separate_classes"]

from featood.data.tables.reading import read_table
from featood.data.tables.scaling import SCALES, Scaling, fit_scaling
from featood.data.tables.table import Table, assign_parts, separate_classes
