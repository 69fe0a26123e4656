"""Why a pod is pending, denied or without a device: read from the API, judged by the rules of admission and lab."""
