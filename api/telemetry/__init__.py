"""Anonymous ingest: nodes' reports of their transcodes. The hot routes are plain ASGI; `app.py` puts them in front."""
