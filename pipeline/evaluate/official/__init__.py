"""What the authors' evaluation code does and their papers do not say, as parity needs it.

Beside the protocols, which are what users choose from.
"""
