"""The webhooks: AdmissionReview in, AdmissionReview out; pods are normalised, pinned and judged."""
