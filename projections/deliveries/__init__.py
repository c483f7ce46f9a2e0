"""Deliveries: endpoints, notices, and what became of each notice at each endpoint."""
