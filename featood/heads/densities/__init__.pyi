from .gmm import GMM as GMM
from .likelihood import Likelihood as Likelihood
