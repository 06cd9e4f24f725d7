"""A reporter that records lines and progress."""

from featood.reporter import Reporter


class Kept(Reporter):
    def __init__(self):
        self.lines, self.steps = [], []

    def line(self, text):
        self.lines.append(text)

    def progress(self, what, done, total, **figures):
        self.steps.append((what, done, total, figures))
