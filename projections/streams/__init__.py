"""Streams: sessions of viewers, plays, and their sums by viewer, video and day."""
