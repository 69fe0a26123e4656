"""Fuzz target: ELF files, from any bytes to everything that loading an enclave asks of one."""

import sys

import atheris

with atheris.instrument_imports(include=["bastide.enclave"]):
    from bastide.enclave.elf import SHT_REL, SHT_RELA, ElfImage
    from bastide.enclave.layout import EnclaveLayout, bounded_runs
    from bastide.enclave.locate import locate
    from bastide.enclave.segments import segment_runs
    from bastide.errors import MalformedError

_LARGEST = 1 << 24


def test_one_input(data: bytes) -> None:
    """Read the headers, the tables and the segments."""
    located = locate(data)
    if located is not None and any(not 0 <= at <= len(data) - 1808 for at in located.sigstruct_offsets):
        raise AssertionError("a SIGSTRUCT outside of the file")
    try:
        elf = ElfImage.parse(data)
    except MalformedError:
        return
    for section in elf.sections:
        try:
            content = elf.content(section)
            relocations = list(elf.relocations(section)) if section.type in (SHT_REL, SHT_RELA) else []
            for relocation in relocations[:10]:
                elf.symbol_value(relocation.symbol)
        except MalformedError:
            continue
        if len(content) > len(data):
            raise AssertionError("a section is larger than its file")
    try:
        elf.dynamic_symbols(("_start", "__ImageBase"))
        runs = bounded_runs(run for segment in elf.loads for run in segment_runs(elf, segment))
        layout = EnclaveLayout(size=_LARGEST, ssa_frame_size=1, runs=runs)
    except MalformedError:
        return
    if not elf.has_text_relocations and not elf.needs_libraries and layout.hashed <= _LARGEST:
        layout.measure().digest()


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
