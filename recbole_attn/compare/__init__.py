"""Comparisons: rows × data sets × seeds, each trial in a process of its own, tables that can be believed.

plan (what is asked for) → trials → schedule (run what is missing) → store (one folder a trial) → statistics → report.
"""
