"""Shared parts of commands: answers and exit codes, the admin API, addresses of services, files to upload."""
