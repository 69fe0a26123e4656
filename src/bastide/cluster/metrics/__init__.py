"""EPC of pools and pods as numbers that autoscalers read."""
