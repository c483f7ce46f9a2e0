"""Assignment of jobs: the pure decider, the owners of partitions that apply it, and what-if runs."""
