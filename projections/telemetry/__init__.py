"""Telemetry of encoders: the projection, its insights and estimates."""
