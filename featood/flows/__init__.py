"""Normalising flows on feature vectors: exact log-densities, by maps whose determinants are known."""

from featood.flows.approximate import ApproximateFlow
from featood.flows.autoregressive import AutoregressiveFlow
from featood.flows.coupling import glow, realnvp
from featood.flows.density import FlowDensity
from featood.flows.mixtures import GaussianMixtures
from featood.flows.planar import PlanarFlow
from featood.flows.radial import RadialFlows, radial_log_density
from featood.flows.residual import ResidualFlow

__all__ = [
    "ApproximateFlow",
    "AutoregressiveFlow",
    "FlowDensity",
    "GaussianMixtures",
    "PlanarFlow",
    "RadialFlows",
    "ResidualFlow",
    "glow",
    "radial_log_density",
    "realnvp",
]
