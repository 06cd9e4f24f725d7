from .vmdls import VMDLS as VMDLS
