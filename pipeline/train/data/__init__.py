"""What trainings read: training sets, held-out parts, triplets, views of photos, stored descriptors.

Between the index or the photos and the training tasks.
"""
