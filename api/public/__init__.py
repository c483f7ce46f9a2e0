"""The public app: viewers browse, search and watch."""
