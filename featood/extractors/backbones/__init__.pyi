from .backbone import CODE as CODE
from .backbone import RANDOM as RANDOM
from .backbone import Backbone as Backbone
from .backbone import code_name as code_name
from .class_names import align_classes as align_classes
from .names import list_backbones as list_backbones
from .resolve import resolve_backbone as resolve_backbone
