"""Heads that reshape the penultimate features, or the classifier, before they score the logits."""
