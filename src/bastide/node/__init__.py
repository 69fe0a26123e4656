"""What one node has of SGX, and how its kubelet learns of it.

``Hardware`` (port) -> ``NodeInventory`` -> ``DeviceOffer`` per resource -> gRPC device plugins, kept registered by
``NodeAgent``. EPC itself is no device: its bytes are node status capacity (``epc.epc_capacity``).
"""
