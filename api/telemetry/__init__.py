"""Anonymous ingest: what nodes report about their transcodes. The hot routes are plain ASGI; `api.app` puts them in front."""
