"""Settings for all tests."""

import os

from hypothesis import HealthCheck, settings

# gRPC starts its threads again in every process that is forked, and some tests lock such a process in.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

# Machines are shared: how long one example takes says nothing about the code.
settings.register_profile("bastide", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("bastide")
