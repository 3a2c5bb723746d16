"""Certificates: signed statements that a run certified a model in a region, and their check."""
