from .autoencoder import Autoencoder as Autoencoder
from .vae import VAE as VAE
