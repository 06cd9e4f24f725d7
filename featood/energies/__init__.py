"""Samplers and training objectives for arbitrary energy functions."""

from featood.energies.chain_starts import NormalStarts, UniformStarts
from featood.energies.classifier import class_energy, classification_loss, free_energy, prediction_entropy
from featood.energies.conditional_noise import ConditionalNoiseObjective, conditional_noise_contrastive
from featood.energies.confident_samples import ConfidentSamplesObjective
from featood.energies.contrastive import ContrastiveObjective, contrastive_divergence
from featood.energies.energy_prior import (
    EnergyPriorObjective,
    GeneratedEnergyPriorObjective,
    VeraPosteriorObjective,
)
from featood.energies.flow_contrastive import (
    FlowContrastiveObjective,
    flow_contrastive,
    importance_likelihood,
)
from featood.energies.gaussian_base import GaussianBase, TiltedNet, learned_energy
from featood.energies.gibbs import TokenChains, gibbs_with_gradients
from featood.energies.hybrid import HybridObjective, hybrid_contrast
from featood.energies.joint import JointObjective, joint_loss
from featood.energies.noise_contrastive import (
    GaussianNoise,
    NoiseContrastiveObjective,
    TiltedGaussian,
    UniformNoise,
    noise_contrastive,
)
from featood.energies.objective import EnergyObjective
from featood.energies.perturbation import perturb
from featood.energies.recent_samples import RecentSamples
from featood.energies.replay import ReplayBuffer, SampledObjective
from featood.energies.score_matching import (
    ScoreMatchingObjective,
    SupervisedScoreMatchingObjective,
    sliced_score_matching,
    warn_if_piecewise_linear,
)
from featood.energies.sgld import decay, frozen, sgld
from featood.energies.svgd import svgd
from featood.energies.vera import (
    SupervisedVeraObjective,
    VeraObjective,
    VeraSampler,
    gradient_penalty,
    vera_loss,
)

__all__ = [
    "ConditionalNoiseObjective",
    "ConfidentSamplesObjective",
    "ContrastiveObjective",
    "EnergyObjective",
    "EnergyPriorObjective",
    "FlowContrastiveObjective",
    "GaussianBase",
    "GaussianNoise",
    "GeneratedEnergyPriorObjective",
    "HybridObjective",
    "JointObjective",
    "NoiseContrastiveObjective",
    "NormalStarts",
    "RecentSamples",
    "ReplayBuffer",
    "SampledObjective",
    "ScoreMatchingObjective",
    "SupervisedScoreMatchingObjective",
    "SupervisedVeraObjective",
    "TiltedGaussian",
    "TiltedNet",
    "TokenChains",
    "UniformNoise",
    "UniformStarts",
    "VeraObjective",
    "VeraPosteriorObjective",
    "VeraSampler",
    "class_energy",
    "classification_loss",
    "conditional_noise_contrastive",
    "contrastive_divergence",
    "decay",
    "flow_contrastive",
    "free_energy",
    "frozen",
    "gibbs_with_gradients",
    "gradient_penalty",
    "hybrid_contrast",
    "importance_likelihood",
    "joint_loss",
    "learned_energy",
    "noise_contrastive",
    "perturb",
    "prediction_entropy",
    "sgld",
    "sliced_score_matching",
    "svgd",
    "vera_loss",
    "warn_if_piecewise_linear",
]
