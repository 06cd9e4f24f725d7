from .initialise import seeded as seeded
from .mlp import MLP as MLP
from .registry import NetDefaults as NetDefaults
from .registry import create_net as create_net
from .registry import is_net as is_net
from .registry import list_nets as list_nets
from .registry import net_defaults as net_defaults
