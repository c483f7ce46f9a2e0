"""Failures: the projection, the report and the capsule that reproduces an attempt."""
