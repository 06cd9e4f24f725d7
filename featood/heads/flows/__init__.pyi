from .approximate_flow import ApproximateFlow as ApproximateFlow
from .glow_vector import GlowVector as GlowVector
from .iresnet import IResNet as IResNet
from .maf import MAF as MAF
from .planar_flow import PlanarFlow as PlanarFlow
from .radial_flow import RadialFlow as RadialFlow
from .realnvp import RealNVP as RealNVP
from .spline_flow import SplineFlow as SplineFlow
