"""HLS and DASH from the catalog's rows."""
