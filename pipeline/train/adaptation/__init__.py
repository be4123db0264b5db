"""What `relook adapt` learns from groups of photos: linear maps of descriptors that exist already.

Below `pipeline.workflow.training.adaptation`, which chooses among them on groups that are held out.
"""
