"""Mechanism of every projection: fold, rows and positions in PostgreSQL, bulk folds and rebuilds."""
