"""Samplers and objectives for energy functions: one principle, whatever the energy is of."""

from featood.energies.contrastive import contrastive_divergence
from featood.energies.sgld import decay, frozen, sgld

__all__ = ["contrastive_divergence", "decay", "frozen", "sgld"]
