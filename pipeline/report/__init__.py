"""What people look at: tables and bars in the terminal, a page with the pictures.

Beside the flow: it shows what stages return and computes nothing. What draws on photos is not among these names, and
templates are loaded by the first page: every verb imports this room, and most show neither.
"""

from pipeline.report.adaptation import show_adaptation
from pipeline.report.bars import Bars
from pipeline.report.console import (
    show_calibration,
    show_comparison,
    show_evaluation,
    show_results,
    show_rows,
    show_sweep,
    show_training,
    show_verification,
)
from pipeline.report.evaluation import write_evaluation
from pipeline.report.figures.comparison import save_comparison_figure
from pipeline.report.figures.evaluation import save_evaluation_figure
from pipeline.report.figures.style import check_ending
from pipeline.report.hits_tsv import write_hits
from pipeline.report.inventory import show_duplicates, show_failures, show_info, show_settings
from pipeline.report.pages.adaptation import write_adaptation
from pipeline.report.pages.comparison import write_comparison
from pipeline.report.pages.duplicates import write_duplicates
from pipeline.report.pages.evaluation import write_evaluation_page
from pipeline.report.pages.index import write_index_page
from pipeline.report.pages.map import write_map
from pipeline.report.pages.search import write_search
from pipeline.report.pages.training import write_training

__all__ = [
    "Bars",
    "check_ending",
    "save_comparison_figure",
    "save_evaluation_figure",
    "show_adaptation",
    "show_calibration",
    "show_comparison",
    "show_duplicates",
    "show_evaluation",
    "show_failures",
    "show_info",
    "show_results",
    "show_rows",
    "show_settings",
    "show_sweep",
    "show_training",
    "show_verification",
    "write_adaptation",
    "write_comparison",
    "write_duplicates",
    "write_evaluation",
    "write_evaluation_page",
    "write_hits",
    "write_index_page",
    "write_map",
    "write_search",
    "write_training",
]
