from .architectures import Architecture as Architecture
from .augmentation import AUGMENTATIONS as AUGMENTATIONS
from .folder import Facts as Facts
from .folder import is_extractor as is_extractor
from .folder import load_extractor as load_extractor
from .folder import save_extractor as save_extractor
from .options import TrainOptions as TrainOptions
from .trainer import TrainImages as TrainImages, train_network as train_network
