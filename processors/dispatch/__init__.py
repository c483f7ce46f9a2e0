"""Who does which job next: the pure decider, the owner of the topic that applies it, and what-if runs."""
