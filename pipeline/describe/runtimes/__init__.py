"""Compiled runtimes for the describer's backbone: what runs an exported graph in the place of torch.

`export` writes the graph, `registry` opens a session of it, `compiled_backbone` puts that into a network. One file per
runtime behind `base`; of these only `export` and `compiled_backbone` load torch.
"""
