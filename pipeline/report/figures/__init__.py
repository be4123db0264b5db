"""Plots, drawn by matplotlib: part of a page as SVG, or a file for a paper as PDF, SVG or PNG.

Chosen because one figure serves both: as SVG it adds some 20 kB to a page without a script, where an interactive
library would add 4 MB. `style` holds colours and files, the other modules the plots of one verb each. matplotlib is
loaded when a plot is drawn, and its global settings stay as they are.
"""
