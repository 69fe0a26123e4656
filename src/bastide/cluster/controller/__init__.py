"""What happens after admission: gates are opened, certificates kept, decisions told as events."""
