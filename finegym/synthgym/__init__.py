"""Rendered gymnasts performing true Gym99 classes: a dataset that anybody can make, in FineGym's own file formats."""
