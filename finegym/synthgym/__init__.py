"""Rendered gymnasts performing true Gym99 classes: a dataset that anybody can make, down to FineGym's own file formats."""
