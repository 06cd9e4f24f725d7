from .energy_finetune import EnergyFinetune as EnergyFinetune
from .godin import GODIN as GODIN
from .mos import MOS as MOS
from .opengan import OpenGAN as OpenGAN
from .open_set import OpenSet as OpenSet
from .outlier_exposure import OutlierExposure as OutlierExposure
