"""Live status over Server-Sent Events."""
