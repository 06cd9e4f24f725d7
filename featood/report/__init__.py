"""Results for people and machines: terminal table, JSON, CSV, Parquet, figures, the HTML page."""

from featood.report.comparison import comparison_lines
from featood.report.comparison_plots import interval_plot, rank_plot
from featood.report.files import write_csv, write_json
from featood.report.html import write_report
from featood.report.plots import reliability_diagram, roc_curves, score_histogram, score_map
from featood.report.rows import collapsed, mean_rows
from featood.report.scores import write_scores
from featood.report.table import results_table

__all__ = [
    "collapsed",
    "comparison_lines",
    "interval_plot",
    "mean_rows",
    "rank_plot",
    "reliability_diagram",
    "results_table",
    "roc_curves",
    "score_histogram",
    "score_map",
    "write_csv",
    "write_json",
    "write_report",
    "write_scores",
]
