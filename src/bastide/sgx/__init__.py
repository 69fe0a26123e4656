"""Intel SGX's own structures and the arithmetic on them: bytes to values and back, MRENCLAVE, SIGSTRUCT, keys.

Import from the modules: ``types attributes report td_report quote sigstruct secs keys measurement``; ``codec`` is how
they read.
"""
