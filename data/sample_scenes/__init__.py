"""Small procedural photo studio: the scenes, textures and ray caster behind the sample pictures.

Used by data/make_samples.py only; it is no part of the installed package.
"""
