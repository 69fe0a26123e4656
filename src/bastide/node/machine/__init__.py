"""The real machine, and what was captured of one: files, device nodes and CPUID, read into values.

``NodeFiles`` (port: the live machine, a tree in a folder, a support bundle) -> ``read_facts`` -> ``NodeFacts``.
"""
