from .gmm import GMM as GMM
from .likelihood import Likelihood as Likelihood
from .typicality import Typicality as Typicality
