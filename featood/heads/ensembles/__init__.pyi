from .deep_ensemble import DeepEnsemble as DeepEnsemble
from .dropout_mlp import DropoutMLP as DropoutMLP
from .ensemble_mlp import EnsembleMLP as EnsembleMLP
from .mc_dropout import MCDropout as MCDropout
