"""Descriptors: one module per kind of open file; together they become steps of the clone's program."""

from thaw.snapshot.descriptors.planner import plan_descriptors

__all__ = ["plan_descriptors"]
