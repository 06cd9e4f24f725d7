from .compose import Compose as Compose
from .fisher import Fisher as Fisher
from .rank_average import RankAverage as RankAverage
