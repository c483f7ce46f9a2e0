"""Sources of the log: pure (request, context) -> envelopes, one file per source, and the appender that makes them durable."""
