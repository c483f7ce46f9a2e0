"""The admin app: uploads, videos, jobs, workers and their keys, failures, live status."""
