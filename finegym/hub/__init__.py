"""Checkpoints that come from elsewhere and checkpoints that go out: conversion, export, cards and publishing.

In: a foreign weight file or a finished checkpoint folder. Out: a checkpoint folder, a graph or a Hub repository. This
room never trains, and sends nothing that it has not loaded as a stranger would.
"""
