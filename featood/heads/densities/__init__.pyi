from .gmm import GMM as GMM
from .input_complexity import InputComplexity as InputComplexity
from .likelihood import Likelihood as Likelihood
from .typicality import Typicality as Typicality
