"""What people look at: tables and bars in the terminal, a page with the pictures.

Beside the flow: it shows what stages return and computes nothing.
"""

from pipeline.report.console import Bars, show_answers, show_evaluation, show_rows, show_training, show_verification
from pipeline.report.html import write_page

__all__ = ["Bars", "show_answers", "show_evaluation", "show_rows", "show_training", "show_verification", "write_page"]
