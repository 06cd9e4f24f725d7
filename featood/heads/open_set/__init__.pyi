from .energy_finetune import EnergyFinetune as EnergyFinetune
from .godin import GODIN as GODIN
from .mos import MOS as MOS
from .open_set import OpenSet as OpenSet
from .outlier_exposure import OutlierExposure as OutlierExposure
