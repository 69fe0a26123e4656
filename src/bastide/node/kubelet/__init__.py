"""The kubelet's side of the node: gRPC on unix sockets, and nothing else of the room imports gRPC."""
