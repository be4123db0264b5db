"""Training of a global descriptor: its task, its losses, the momentum encoder, DELG's local heads.

Run by the verb `train-global` through the one loop.
"""
