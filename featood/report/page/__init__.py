"""The report: one self-contained HTML page, its data, and its templates, styles and scripts."""
