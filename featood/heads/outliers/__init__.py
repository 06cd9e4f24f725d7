"""General outlier detectors from scikit-learn, fitted to features."""
