"""Anonymous ingest: what nodes report about their transcodes. The hot routes are plain ASGI; `app.py` puts them in front."""
