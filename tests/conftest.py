"""Settings for all tests."""

from hypothesis import HealthCheck, settings

# Machines are shared: how long one example takes says nothing about the code.
settings.register_profile("bastide", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("bastide")
