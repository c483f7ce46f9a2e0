"""The routes of the apps, a file per subject."""
