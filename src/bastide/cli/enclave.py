"""``bastide enclave``: find, inspect, measure, size, sign and verify enclave images."""

import json
from pathlib import Path

import click

from bastide.catalogue.lookup import find_class
from bastide.cli.enclave_files import bar, bytes_in, load_enclave
from bastide.cli.enclave_measure import measure
from bastide.cli.enclave_report import (
    block_json,
    fit_json,
    found_json,
    print_found,
    print_info,
    print_size,
    remark_json,
    size_json,
)
from bastide.cli.enclave_sign import sign
from bastide.cli.enclave_verify import verify
from bastide.cli.failures import EXIT_NO
from bastide.cli.screen import Screen
from bastide.enclave.find import find as find_enclaves
from bastide.enclave.inspect import inspect as inspect_enclave
from bastide.enclave.size import fit
from bastide.enclave.size import size as size_enclave

_PATH = click.Path(path_type=Path)
_file = click.argument("file", metavar="FILE", type=_PATH)
_sig = click.option(
    "--sig", metavar="FILE", type=_PATH, help="SIGSTRUCT of FILE (Gramine, Fortanix); default: the .sig beside it."
)
_libpal = click.option("--libpal", metavar="FILE", type=_PATH, help="Gramine's libpal.so: a manifest needs it.")
_json = click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")


@click.group()
def group() -> None:
    """Enclave images: what is in them, who signed them, how much EPC they take, whether they may start."""


group.add_command(measure)
group.add_command(sign)
group.add_command(verify)


@group.command()
@click.argument("path", metavar="PATH", type=_PATH)
@_json
def find(path: Path, *, as_json: bool) -> int:
    """Find every enclave in a file, a folder or a container image.

    PATH may be an OCI layout folder, an OCI or docker-save archive (layers plain, gzip or zstd), or a tar of a root
    file system. Images are not unpacked to disk. Exit codes: 0 also when there is none, 2 bad input.
    """
    with bar(f"reading {path}", bytes_in(path), in_bytes=True) as advance:
        found = tuple(find_enclaves(path, progress=advance))
    if as_json:
        click.echo(json.dumps({"enclaves": [found_json(one) for one in found]}, indent=2))
    else:
        print_found(Screen(), found)
    return 0


@group.command()
@_file
@_sig
@_libpal
@_json
def inspect(file: Path, sig: Path | None, libpal: Path | None, *, as_json: bool) -> int:
    """Show what an enclave file says: signer, product, SVN, attributes, layout, EPC; and what to know of it.

    Nothing is measured: see `measure`. Exit codes: 0 shown, 2 bad input.
    """
    info = inspect_enclave(load_enclave(file, sig=sig, libpal=libpal))
    if as_json:
        shown = {
            "kind": info.kind,
            "note": info.note,
            "blocks": [block_json(block) for block in info.blocks],
            "remarks": [remark_json(remark) for remark in info.remarks],
        }
        click.echo(json.dumps(shown, indent=2))
    else:
        print_info(Screen(), info)
    return 0


@group.command()
@_file
@_libpal
@click.option("--processes", metavar="N", type=int, default=1, help="Enclaves at the peak (a fork is one); default 1.")
@click.option("--edmm", is_flag=True, help="The node adds memory on demand (SGX2): count what may be added.")
@click.option("--node", metavar="CLASS", help="Say what it means on this node class, such as DC4s_v3.")
@_json
def size(file: Path, libpal: Path | None, processes: int, node: str | None, *, edmm: bool, as_json: bool) -> int:
    """Say how much EPC an enclave takes, and which limit to write for it.

    Exit codes: 0 good, 2 bad input, 3 it does not fit into the EPC of --node.
    """
    node_class = find_class(node) if node else None
    needed = size_enclave(load_enclave(file, libpal=libpal, look_beside=False), processes=processes, edmm=edmm)
    fits = fit(needed.grown.size, node_class) if node_class else None
    if as_json:
        shown = {**size_json(needed), "node": fit_json(fits) if fits else None}
        click.echo(json.dumps(shown, indent=2))
    else:
        print_size(Screen(), needed, fits)
    return EXIT_NO if fits is not None and not fits.fits else 0
