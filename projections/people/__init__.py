"""People: rights by role, and who may come in now."""
