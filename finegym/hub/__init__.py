"""Checkpoints that come from elsewhere and checkpoints that go out: conversion, export, cards and publishing.

In: a foreign weight file or a finished checkpoint folder. Out: a checkpoint folder, a graph or a Hub repository. This
package never trains, and sends only what it has loaded as a user would.
"""
