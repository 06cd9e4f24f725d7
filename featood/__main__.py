"""``python -m featood``."""

from featood.cli import main

main()
