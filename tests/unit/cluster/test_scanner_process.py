"""The processes of a scan, as they really run: what they read, how they end, and what they are kept from."""

import asyncio
import gzip
import json
import os
import stat
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard

from bastide.cluster.scanner import process as scan_process
from bastide.cluster.scanner import worker
from bastide.cluster.scanner.answer import Answer
from bastide.cluster.scanner.confine import landlock
from bastide.cluster.scanner.confine.lock import available
from bastide.cluster.scanner.job import RegistryOptions, ScanJob
from bastide.cluster.scanner.limits import ScanLimits
from bastide.cluster.scanner.process import remove_leftovers, run_job
from bastide.cluster.scanner.read_job import ReadJob
from bastide.errors import MalformedError, UnavailableError
from bastide.pods.images import ImageReference
from bastide.units import MIB
from bastide.web.tls import CERTIFICATE_FILE
from support.bounded import eventually, run_bounded
from support.enclave_files import signed_intel_enclave
from support.escapes import SECRET
from support.images import Layout, Member, digest, layout, tar
from support.registry import REPOSITORY, fake_registry, repository, tls_pair
from support.scanning import scan
from support.vectors import ROOT

ENCLAVE = signed_intel_enclave()
SECONDS = 100
"""For two processes to start, on a machine that has other things to do."""
needs_filter = pytest.mark.skipif(not available().calls, reason="this kernel has no filter of system calls for us")


def _image(*contents: bytes, compression: str = "gzip") -> Layout:
    members = [Member(f"app/{number}.signed.so", raw) for number, raw in enumerate(contents)]
    return layout([tar(Member("etc/hello", b"hello")), tar(*members)], compression=compression)


@pytest.fixture
def registry():
    with fake_registry() as served:
        yield served


def _job(registry, name, **limits) -> ScanJob:
    options = RegistryOptions(private=(f"http://{registry.host}",))
    return ScanJob(image=registry.image(f"@{name}"), options=options, limits=ScanLimits(**limits))


def test_a_job_passes_through_its_form(registry):
    job = _job(registry, f"sha256:{'1' * 64}", seconds=5.0)
    assert ScanJob.parse(job.build()) == job


def test_a_process_does_the_job_and_leaves_nothing_on_the_disk(registry, tmp_path):
    name = registry.put(_image(ENCLAVE))

    async def done():
        answer = await run_job(_job(registry, name), tmp_path)
        assert answer.report is not None
        assert len(answer.report.enclaves) == 1
        assert answer.pulled > 0
        assert not list(tmp_path.iterdir())

    run_bounded(done, seconds=SECONDS)


def test_a_process_that_waits_is_ended_when_its_task_is(registry, tmp_path):
    name = registry.put(_image())
    registry.answerer = lambda asked, exchange: exchange.drip(b"HTTP/1.1 200 OK" * 9, every=1) or True

    async def done():
        task = asyncio.ensure_future(run_job(_job(registry, name), tmp_path))
        await eventually(lambda: bool(registry.asked), "the process asks the registry", seconds=60)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not list(tmp_path.iterdir())

    run_bounded(done, seconds=SECONDS)


def test_a_registry_that_is_silent_is_a_passing_failure(registry, tmp_path):
    name = registry.put(_image())
    registry.answerer = lambda asked, exchange: exchange.stop.wait(30) or True

    async def done():
        answer = await run_job(_job(registry, name, seconds=0.5), tmp_path)
        assert answer.passing is not None
        assert answer.passing.code == "scanner.http.slow"

    run_bounded(done, seconds=SECONDS)


def test_memory_and_processor_time_are_bounded_by_the_kernel(registry, tmp_path):
    name = registry.put(_image(ENCLAVE + bytes(96 * MIB)))

    async def done():
        small = await run_job(_job(registry, name, memory=64 * MIB), tmp_path)
        assert small.report is not None
        assert small.report.failure.code == "scanner.scan.memory"
        none = await run_job(_job(registry, name, cpu=0), tmp_path)
        assert none.report is not None
        assert none.report.failure.code == "scanner.scan.work"

    run_bounded(done, seconds=SECONDS)


# What is read behind the lock is what is read without it


def _of_every_kind() -> Layout:
    """Layers of every packing; an enclave so large that it is put aside on disk; real ones where they are."""
    large = ENCLAVE + os.urandom(256) * (9 * MIB // 256)
    members = [Member("app/large.signed.so", large), Member("app/bad.signed.so", ENCLAVE[:-900])]
    image = layout([tar(Member("app/a.signed.so", ENCLAVE)), tar(*members)])
    extra = layout([tar(Member("app/z.signed.so", ENCLAVE[:-1]))], compression="zstd")
    return _joined(_joined(image, extra), layout([tar(*_real())], compression="plain"))


def _real() -> list[Member]:
    folder = ROOT / "enclave"
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.stat().st_size < MIB]
    return [Member(f"opt/{path.relative_to(folder)}", path.read_bytes()) for path in paths]


def _joined(one: Layout, other: Layout) -> Layout:
    """One image with the layers of both."""
    first, second = (json.loads(image.blobs[image.manifest_digest]) for image in (one, other))
    diff_ids = [
        entry
        for image, tree in ((one, first), (other, second))
        for entry in json.loads(image.blobs[tree["config"]["digest"]])["rootfs"]["diff_ids"]
    ]
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    blobs = one.blobs | other.blobs
    raw = json.dumps(config).encode()
    layers = [{**layer, "mediaType": layer["mediaType"].removesuffix("+plain")} for layer in second["layers"]]
    tree = {
        **first,
        "config": {**first["config"], "digest": digest(raw), "size": len(raw)},
        "layers": first["layers"] + layers,
    }
    manifest = json.dumps(tree).encode()
    return Layout({**blobs, digest(raw): raw, digest(manifest): manifest}, one.index, digest(manifest))


def _packed(packed: bytes, unpacked: bytes = b"") -> Layout:
    image = layout([unpacked])
    tree = json.loads(image.blobs[image.manifest_digest])
    tree["layers"] = [{**tree["layers"][0], "digest": digest(packed), "size": len(packed)}]
    manifest = json.dumps(tree).encode()
    return Layout({**image.blobs, digest(packed): packed, digest(manifest): manifest}, {}, digest(manifest))


def _wide_zstd() -> bytes:
    parameters = zstandard.ZstdCompressionParameters(window_log=27, compression_level=3)
    stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return stream.compress(os.urandom(2 * MIB)) + stream.flush()


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (_of_every_kind, None),
        (lambda: _packed(gzip.compress(b"x" * 5000)[:-20]), "enclave.layer.compression"),
        (lambda: _packed(zstandard.compress(b"x" * 5000)[:9] + b"\xff" * 40), "enclave.layer.compression"),
        (lambda: _packed(_wide_zstd()), "enclave.layer.window"),
        (lambda: _packed(b"BZh91AY&SY"), "enclave.layer.compression"),
        (lambda: _packed(gzip.compress(tar(Member("a"))), b"else"), "enclave.image.digest"),
        (lambda: _packed(gzip.compress(b"no tar at all" * 100)), "tar.number"),
    ],
)
def test_a_locked_process_reads_what_an_unlocked_one_does(registry, tmp_path, caplog, make, code):
    name = registry.put(make())
    (tmp_path / "unlocked").mkdir()
    expected = scan(repository(registry), name, tmp_path / "unlocked").report
    assert (expected.failure.code if expected.failure else None) == code
    assert len(expected.enclaves) >= (4 if code is None else 0)

    async def done():
        answer = await run_job(_job(registry, name), tmp_path)
        assert replace(answer.report, scanned_at=expected.scanned_at) == expected

    run_bounded(done, seconds=SECONDS)
    assert not caplog.records


def test_a_locked_puller_asks_by_name_and_over_tls(tmp_path):
    server, _ = tls_pair(tmp_path, "localhost")
    (tmp_path / "work").mkdir()
    with fake_registry(server) as registry:
        host = f"localhost:{registry.port}"
        options = RegistryOptions(private=(host,), ca_file=str(tmp_path / CERTIFICATE_FILE))
        name = registry.put(_image(ENCLAVE))
        job = ScanJob(image=ImageReference.parse(f"{host}/{REPOSITORY}@{name}"), options=options)

        async def done():
            answer = await run_job(job, tmp_path / "work")
            assert len(answer.report.enclaves) == 1

        run_bounded(done, seconds=SECONDS)


# Code of somebody else in these processes

_TAKEN = """#!{python} -I
import importlib, json, os, socket, sys
from pathlib import Path
sys.path.append({tests!r})
from bastide.errors import MalformedError
from support import escapes

module = importlib.import_module(sys.argv[3])
sys.argv = [sys.argv[3], sys.argv[4]]
SCANNER = os.getppid()

def said(*attempts):
    memory = escapes.ctypes.create_string_buffer(escapes.SECRET)
    folder, token, unix = Path(sys.argv[1]), Path({token!r}), Path("/nowhere")
    target = escapes.Target(folder, token, ({port}, {port}), unix, memory, SCANNER)
    return {{one.__name__: escapes.words_for(lambda: one(target)) for one in attempts}}

def taken(*_):
{body}

if module.__name__.endswith({part!r}):
    setattr(module, {function!r}, taken)
module.main()
"""


@pytest.fixture
def take_over(registry, tmp_path, monkeypatch):
    """Have the function of a process that reads strangers' bytes do something else."""

    def prepare(part: str, body: str) -> None:
        (tmp_path / "token").write_bytes(SECRET)
        program = tmp_path / "python"
        program.write_text(
            _TAKEN.format(
                python=sys.executable,
                tests=str(Path(__file__).parents[2]),
                token=str(tmp_path / "token"),
                port=registry.port,
                part=f".{part}",
                function={"puller": "fetch", "reader": "read"}[part],
                body=textwrap.indent(textwrap.dedent(body), "    "),
            )
        )
        program.chmod(0o700)
        monkeypatch.setattr(sys, "executable", str(program))
        (tmp_path / "work").mkdir()

    return prepare


def _told(registry, tmp_path) -> str:
    """What was said of the image in the end."""
    found: list[str] = []

    async def done():
        answer = await run_job(_job(registry, registry.put(_image(ENCLAVE))), tmp_path / "work")
        assert not answer.report.enclaves
        found.append(f"{answer.report.failure.code} {answer.report.failure.message}")

    run_bounded(done, seconds=SECONDS)
    return found[0]


QUIET = """
names = ("read_token read_parents_memory_as_a_file read_parents_environment read_own_environment list_a_folder fork "
         "write_outside change_the_token change_parents_limits start_a_thread").split()
raise MalformedError("test.said", json.dumps(said(*(getattr(escapes, name) for name in names))))
"""


@needs_filter
@pytest.mark.parametrize("part", ["puller", "reader"])
def test_who_takes_over_a_process_gets_neither_token_nor_scanner(registry, tmp_path, take_over, part):
    if part == "puller" and not landlock.version():
        pytest.skip("this kernel has no Landlock")
    take_over(part, QUIET)
    code, _, words = _told(registry, tmp_path).partition(" ")
    outcomes = json.loads(words)
    assert code == "test.said"
    assert len(outcomes) == 10
    assert {one: found for one, found in outcomes.items() if found not in ("EPERM", "EACCES", "EAGAIN")} == {}


@needs_filter
@pytest.mark.parametrize("attempt", ["connect_ipv4", "run_a_program", "read_parents_memory", "trace_parent"])
def test_who_takes_over_the_reader_and_shows_it_ends_it_and_the_image_fails(
    registry, tmp_path, take_over, caplog, attempt
):
    take_over("reader", f"said(escapes.{attempt})")
    assert _told(registry, tmp_path).startswith("scanner.scan.forbidden")
    assert "was ended by its filter of calls" in caplog.text


@needs_filter
def test_who_takes_over_the_puller_and_shows_it_ends_it_and_the_image_is_tried_elsewhere(registry, tmp_path, take_over):
    take_over("puller", "said(escapes.run_a_program)")
    with pytest.raises(UnavailableError) as caught:
        _told(registry, tmp_path)
    assert caught.value.code == "scanner.scan.forbidden"


def test_a_fault_behind_the_lock_is_told_with_its_place(registry, tmp_path, take_over, caplog):
    take_over("reader", "{}['what is not there']")
    assert _told(registry, tmp_path).startswith("scanner.scan.fault a fault of the scanner: KeyError")
    assert "KeyError: 'what is not there'" in caplog.text
    assert "in taken" in caplog.text


def test_words_of_a_process_cannot_pose_as_the_scanners(registry, tmp_path, take_over, caplog):
    take_over("reader", r"sys.stderr.write('\x1b[2J\n2026-11-30 INFO all is well\n'); {}['x']")
    _told(registry, tmp_path)
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0].endswith(": ?[2J")
    assert all(line.startswith("reader ") for line in lines)


def test_what_a_process_answers_cannot_pose_as_lines_of_the_log():
    passing = {"code": "x\n2026-12-01 INFO all is well", "message": "y" * 5000}
    answer = Answer.parse(json.dumps({"passing": passing}).encode(), f"sha256:{'1' * 64}")
    assert answer.passing.code == "x?2026-12-01 INFO all is well"
    assert answer.passing.message == "y" * 1000


@pytest.mark.parametrize("stream", ["stderr", "stdout"])
def test_a_process_that_floods_what_it_may_say_is_ended(registry, tmp_path, take_over, stream):
    take_over("reader", f"while True: sys.{stream}.write('x' * (1 << 20))")
    with pytest.raises(UnavailableError) as caught:
        _told(registry, tmp_path)
    assert caught.value.code == "scanner.scan.ended"


def test_the_end_of_a_process_is_seen_behind_what_nobody_reads(registry, tmp_path, take_over, monkeypatch):
    take_over("puller", "sys.stderr.write('x' * (1 << 20))")

    async def hang_up(process, *_):
        process.stdin.write(_job(registry, f"sha256:{'1' * 64}").build())
        process.stdin.close()
        unread = process.stderr._transport  # it reads no further once there is too much for whoever asks
        await eventually(lambda: not unread.is_reading(), "the pipe is full", seconds=SECONDS)
        raise UnavailableError("test.hung-up", "nobody wants to know")

    monkeypatch.setattr(scan_process, "_talk", hang_up)
    with pytest.raises(UnavailableError) as caught:
        _told(registry, tmp_path)
    assert caught.value.code == "test.hung-up"


def test_a_reader_holds_no_credential_and_nothing_but_its_files(registry, tmp_path, take_over, monkeypatch):
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("PASSWORD", "secret")
    take_over(
        "reader",
        """
        kinds = []
        for descriptor in range(64):
            try:
                kinds.append(os.fstat(descriptor).st_mode)
            except OSError:
                pass
        raise MalformedError("test.said", json.dumps([sorted(os.environ), kinds]))
        """,
    )
    names, kinds = json.loads(_told(registry, tmp_path).partition(" ")[2])
    assert set(names) <= {"LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH"}
    assert [stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind) for kind in kinds[:3]] == [True] * 3
    assert all(map(stat.S_ISREG, kinds[3:]))
    told = ReadJob(digest="sha256:1", manifests=("sha256:2",), limits=ScanLimits(), unconfined=True)
    assert ReadJob.parse(told.build()) == told
    assert b"password" not in told.build()


def test_a_report_about_other_manifests_than_those_pulled_is_refused(registry, tmp_path):
    name = registry.put(_image(ENCLAVE))
    pulled = scan(repository(registry), name, tmp_path)
    report = pulled.report
    other = replace(report, manifests=(replace(report.manifests[0], digest=f"sha256:{'1' * 64}"),))
    with pytest.raises(MalformedError) as caught:
        pulled.followed_by(Answer(report=other, seconds={}))
    assert caught.value.code == "scanner.image.unread"


# Bounds and ends


def test_work_without_end_is_a_failure_of_the_image():
    def endless(_):
        raise worker.OutOfTime

    name = f"sha256:{'1' * 64}"
    answer = worker.answer(name, ScanLimits(), endless)
    assert answer.report is not None
    assert answer.report.failure.code == "scanner.scan.work"
    assert Answer.parse(answer.build(), name).report == answer.report


def test_a_fault_of_ours_is_a_failure_and_no_end(capsys):
    def faulty(_):
        raise KeyError("x")

    assert worker.answer(f"sha256:{'1' * 64}", ScanLimits(), faulty).report.failure.code == "scanner.scan.fault"
    assert "KeyError" in capsys.readouterr().err


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}", b"nonsense"])
def test_no_answer_is_a_passing_failure(raw):
    with pytest.raises(UnavailableError) as caught:
        Answer.parse(raw, f"sha256:{'1' * 64}")
    assert caught.value.code == "scanner.scan.ended"


def test_an_answer_about_another_image_is_none(registry, tmp_path):
    name = registry.put(_image())
    raw = scan(repository(registry), name, tmp_path).build()
    assert Answer.parse(raw, name).report is not None
    with pytest.raises(UnavailableError):
        Answer.parse(raw, f"sha256:{'1' * 64}")


def test_folders_of_a_scanner_that_was_killed_are_removed(tmp_path):
    (tmp_path / "bastide-scan-abc" / "blobs").mkdir(parents=True)
    (tmp_path / "else").mkdir()
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["else"]
