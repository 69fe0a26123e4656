"""What an image holds, read from its registry by a process that has no other right."""
