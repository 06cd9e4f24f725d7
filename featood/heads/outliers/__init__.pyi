from .isolation_forest import IsolationForest as IsolationForest
from .lof import LOF as LOF
from .one_class_svm import OneClassSVM as OneClassSVM
