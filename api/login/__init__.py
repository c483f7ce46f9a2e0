"""Ways to prove who one is, for the apps that people log in to."""
