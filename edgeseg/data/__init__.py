"""Labelled data as people have it: layouts on disk, encodings of masks, class maps, splits, and a report on all that.

``opened`` opens a data set. ``layouts.LAYOUTS`` is the table of layouts: a file and a row each.
"""
