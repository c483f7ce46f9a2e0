"""For every test: Hypothesis does not watch the clock, since the machine may be busy."""

from hypothesis import HealthCheck, settings

settings.register_profile("kinolog", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("kinolog")
