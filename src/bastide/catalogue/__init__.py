"""Room ``catalogue``: node classes, EPC arithmetic and the slowdown model, as data with source and date."""
