from .gmm import GMM as GMM
