"""Rendered gymnasts performing true Gym99 classes: a data set that anyone can make, in FineGym's own file formats."""
