from .kpca import KernelPCA as KernelPCA
from .neco import NECO as NECO
from .pca_reconstruction import PCAReconstruction as PCAReconstruction
from .residual import Residual as Residual
from .vim import ViM as ViM
