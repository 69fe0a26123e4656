"""How a process gives up, for good, what it will not need: Linux' own means for processes without any privilege."""
