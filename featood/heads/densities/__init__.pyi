from .gmm import GMM as GMM
from .input_complexity import InputComplexity as InputComplexity
from .likelihood import Likelihood as Likelihood
from .likelihood_ratio import LikelihoodRatio as LikelihoodRatio
from .typicality import Typicality as Typicality
from .waic import WAIC as WAIC
