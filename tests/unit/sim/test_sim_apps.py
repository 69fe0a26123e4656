from collections.abc import Callable, Iterator

import pytest

from bastide.errors import BastideError
from bastide.sgx.keys import KeyName, KeyRequest
from bastide.sim.apps import APPS, OPAQUE, Host, app_of
from bastide.sim.apps.epc_eater import MOST_ROUNDS
from bastide.sim.apps.sealer import FILE
from bastide.sim.cpu import Cpu
from bastide.sim.epc import BLOCK
from support.enclaves import cpu, image, started, stranger_key

EATER = app_of("bastide.dev/lab/epc-eater")
SEALER = app_of("bastide.dev/lab/sealer")


def outcome(program: Iterator[None]) -> int:
    """Run a program to its end, alone."""
    while True:
        try:
            next(program)
        except StopIteration as end:
            return int(end.value)


def run_eater(processor: Cpu, *arguments: str, heap_pages: int = 10) -> tuple[int, list[str]]:
    host = Host(arguments=arguments)
    inside = started(processor, image(heap_pages=heap_pages))
    return outcome(EATER.program()(inside, host)), host.log


def run_sealer(storage: dict[str, bytes], processor: Cpu, **signing: object) -> tuple[int, str]:
    host = Host(storage=storage)
    code = outcome(SEALER.program()(started(processor, image(**signing)), host))
    return code, host.log[-1]


def test_the_measured_code_of_a_program_is_its_source() -> None:
    for app in (*APPS.values(), OPAQUE):
        assert b"def run(inside: Inside, host: Host)" in app.code()
        assert callable(app.program())
    assert len({app.code() for app in (*APPS.values(), OPAQUE)}) == 4


def test_an_image_that_nobody_knows_is_opaque() -> None:
    assert app_of("docker.io/library/redis") is OPAQUE
    host = Host()
    assert outcome(OPAQUE.program()(started(cpu(), image()), host)) == 0
    assert "does not know" in host.log[0]


def test_hello_prints_what_the_originals_print() -> None:
    host = Host()
    app = app_of("docker.io/oeciteam/sgx-test")
    assert outcome(app.program()(started(cpu(), image()), host)) == 0
    assert host.log == ["Hello world from the enclave", "Enclave called into host to print: Hello World!"]


def test_the_eater_walks_three_rounds_unless_told_otherwise() -> None:
    assert [len(run_eater(cpu(), *rounds)[1]) for rounds in ((), ("1",), ("5",))] == [3, 1, 5]


@pytest.mark.parametrize("argument", ["0", "-1", "three", "", str(MOST_ROUNDS + 1), "1.0", "9" * 5000])
def test_the_eater_refuses_rounds_that_are_no_number_in_its_range(argument: str) -> None:
    code, log = run_eater(cpu(), argument)
    assert code == 2
    assert log[0].startswith("usage: ")


def test_the_eater_says_what_was_evicted() -> None:
    assert "0 of them" in run_eater(cpu(), "1")[1][0]
    code, log = run_eater(cpu(pages=2 * BLOCK), "2", heap_pages=4 * BLOCK)
    assert code == 0
    assert log[1] == f"round 2: used {4 * BLOCK} pages, {4 * BLOCK} of them had been evicted"


def test_the_sealer_unseals_in_a_second_run_what_it_sealed_in_the_first() -> None:
    storage: dict[str, bytes] = {}
    assert run_sealer(storage, cpu()) == (0, "sealed a new secret of 32 bytes; run again to unseal it")
    sealed = dict(storage)
    assert run_sealer(storage, cpu()) == (0, "unsealed the secret of an earlier run: 32 bytes")
    assert storage == sealed


def test_a_newer_version_of_the_sealer_unseals_and_an_older_one_cannot() -> None:
    storage: dict[str, bytes] = {}
    run_sealer(storage, cpu(), svn=2)
    assert run_sealer(storage, cpu(), svn=3)[0] == 0
    assert run_sealer(storage, cpu(), svn=1)[0] == 1


@pytest.mark.parametrize(
    ("processor", "signing"),
    [("second", {}), ("first", {"key": "stranger"}), ("first", {"product_id": 8}), ("first", {"debug": True})],
    ids=["other cpu", "other signer", "other product", "debug"],
)
def test_nobody_else_unseals(processor: str, signing: dict[str, object]) -> None:
    storage: dict[str, bytes] = {}
    run_sealer(storage, cpu())
    if "key" in signing:
        signing = {"key": stranger_key()}
    code, line = run_sealer(storage, cpu(processor), **signing)
    assert code == 1
    assert line.startswith("cannot unseal")


def test_a_secret_is_sealed_anew_each_time_and_not_in_the_clear() -> None:
    first: dict[str, bytes] = {}
    second: dict[str, bytes] = {}
    run_sealer(first, cpu())
    run_sealer(second, cpu())
    assert first[FILE] != second[FILE]
    assert first[FILE][512:] != second[FILE][512:]


@pytest.mark.parametrize(
    "change",
    [
        lambda blob: b"",
        lambda blob: blob[:511],
        lambda blob: blob[:512],
        lambda blob: blob[:520],
        lambda blob: blob[:-1],
        lambda blob: b"\x01" + blob[1:],
        lambda blob: b"\x07" + blob[1:],
        lambda blob: blob[:4] + b"\xff\xff" + blob[6:],
        lambda blob: blob[:8] + b"\xff" * 16 + blob[24:],
        lambda blob: blob[:511] + b"\x01" + blob[512:],
        lambda blob: blob[:40] + bytes([blob[40] ^ 1]) + blob[41:],
        lambda blob: blob[:-1] + bytes([blob[-1] ^ 1]),
    ],
    ids=[
        "nothing",
        "short request",
        "request only",
        "short nonce",
        "short tag",
        "provision key",
        "unknown key",
        "higher isvsvn",
        "higher cpusvn",
        "reserved",
        "key id",
        "tag",
    ],
)
def test_a_sealed_file_that_the_host_changed_is_refused_and_not_a_fault(change: Callable[[bytes], bytes]) -> None:
    storage: dict[str, bytes] = {}
    run_sealer(storage, cpu())
    storage[FILE] = change(storage[FILE])
    assert run_sealer(storage, cpu())[0] == 1


def test_the_sealer_needs_no_provisioning_key() -> None:
    with pytest.raises(BastideError):
        started(cpu(), image()).get_key(KeyRequest(key_name=KeyName.PROVISION))
