"""The platform on one machine: its programs, the engine that they need, and the supervisor that keeps both running."""
