from .reading import read_table as read_table
from .scaling import SCALES as SCALES
from .scaling import Scaling as Scaling
from .scaling import fit_scaling as fit_scaling
from .table import Table as Table
from .table import assign_parts as assign_parts
from .table import separate_classes as separate_classes
