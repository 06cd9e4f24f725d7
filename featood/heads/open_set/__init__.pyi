from .energy_finetune import EnergyFinetune as EnergyFinetune
from .open_set import OpenSet as OpenSet
from .outlier_exposure import OutlierExposure as OutlierExposure
