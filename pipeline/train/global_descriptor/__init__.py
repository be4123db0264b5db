"""Training of a global descriptor: task, losses, momentum encoder, DELG's local heads.

Run by the verb `train-global` through the one loop.
"""
