"""Rendered gymnasts performing true Gym99 classes: a data set that anyone can make, in FineGym's own file formats.

In: a seed and the classes to perform. Out: a prepared folder, and annotation files as FineGym distributes them. This
package shows no real person and needs no network.
"""
