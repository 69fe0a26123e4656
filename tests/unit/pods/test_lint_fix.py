import codecs
import textwrap

import pytest

from bastide.errors import MalformedError
from bastide.pods.lint_fix import rename_dialects


def job(limits: str, *, more: str = "") -> str:
    return textwrap.dedent(
        """\
        # a comment above: 10 €
        apiVersion: v1
        kind: Pod
        metadata: {name: a}
        spec:
          containers:
          -   name:  odd-spacing     # kept
              image: registry.example/a:1
              resources: {limits: {%s}}
        %s"""
    ) % (limits, more)


def fixed(text: str) -> str:
    return rename_dialects(text.encode(), "a.yaml").raw.decode()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("kubernetes.azure.com/sgx_epc_mem_in_MiB: 10", 'sgx.intel.com/epc: "10Mi"'),
        ("'alibabacloud.com/sgx_epc_MiB': '20'", "'sgx.intel.com/epc': '20Mi'"),
        ('"intel.com/sgx": "2k"', '"sgx.intel.com/epc": "8000Ki"'),
        ("sgx.k8s.io/sgx: 1", "sgx.intel.com/enclave: 1"),
        ("sgx.intel.com/sgx_epc_mem_in_MiB: 1024, cpu: 1", 'sgx.intel.com/epc: "1Gi", cpu: 1'),
    ],
)
def test_names_become_canonical_and_amounts_stay_what_they_are(before: str, after: str) -> None:
    assert fixed(job(before)) == job(after)


def test_block_style_keeps_comments_indentation_and_quotes() -> None:
    text = """\
kind: Job
apiVersion: batch/v1
spec:
    template:
        spec:
            containers:
            -   name: a
                image: i
                resources:
                    limits:   # how much
                        "kubernetes.azure.com/sgx_epc_mem_in_MiB":    10   # MiB!

                        cpu: 1
"""
    assert fixed(text) == text.replace(
        '"kubernetes.azure.com/sgx_epc_mem_in_MiB":    10 ', '"sgx.intel.com/epc":    10Mi '
    )


def test_a_second_run_changes_nothing() -> None:
    once = fixed(job("kubernetes.azure.com/sgx_epc_mem_in_MiB: 10"))
    again = rename_dialects(once.encode(), "a.yaml")
    assert (again.raw.decode(), again.renames, again.left) == (once, (), ())


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (b"", "utf-8"),
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
    ],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_encoding_and_line_ends_stay(mark: bytes, encoding: str, newline: str) -> None:
    def raw(limits: str) -> bytes:
        return mark + job(limits).replace("\n", newline).encode(encoding)

    assert rename_dialects(raw("sgx.k8s.io/sgx: 1"), "a").raw == raw("sgx.intel.com/enclave: 1")


def test_every_document_and_every_list_item_is_fixed_where_it_stands() -> None:
    one = job("sgx.k8s.io/sgx: 1")
    item = '{"kind":"Pod","apiVersion":"v1","spec":{"containers":[{"name":"z","resources":{"limits":{"%s":%s}}}]}}'
    listed = '---\n{"apiVersion":"v1","kind":"List","items":[' + item + "]}\n"
    text = f"---\n{one}---\n# nothing\n---\n{listed % ('alibabacloud.com/sgx_epc_MiB', '4')}"
    expected = f"---\n{one.replace('sgx.k8s.io/sgx', 'sgx.intel.com/enclave')}---\n# nothing\n---\n" + listed % (
        "sgx.intel.com/epc",
        '"4Mi"',
    )
    assert fixed(text) == expected


def test_an_alias_is_fixed_where_its_anchor_stands_and_once() -> None:
    text = job("sgx.k8s.io/sgx: 1").replace("limits: {", "requests: &r {").replace("}}", "}, limits: *r}")
    done = rename_dialects(text.encode(), "a")
    assert done.after == text.replace("sgx.k8s.io/sgx", "sgx.intel.com/enclave")
    assert len(done.renames) == 1


def test_merged_asks_are_fixed_at_their_source() -> None:
    text = job("<<: *shared, cpu: 1").replace("resources: {", "resources: {requests: &shared {sgx.k8s.io/sgx: 1}, ")
    assert fixed(text) == text.replace("sgx.k8s.io/sgx", "sgx.intel.com/enclave")


def test_nothing_is_changed_where_an_alias_would_carry_the_change_elsewhere() -> None:
    text = job("<<: *shared").replace("metadata: {", "metadata: {annotations: &shared {sgx.k8s.io/sgx: 1}, ")
    done = rename_dialects(text.encode(), "a")
    assert (done.after, done.renames) == (text, ())
    assert "something else" in done.left[0].reason


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ("sgx.intel.com/epc: 10Mi, kubernetes.azure.com/sgx_epc_mem_in_MiB: 10", "keep one"),
        ("intel.com/sgx: 1280, alibabacloud.com/sgx_epc_MiB: 5", "keep one"),
        ("kubernetes.azure.com/sgx_epc_mem_in_MiB: 10Mi", "see the finding"),
        ("sgx.k8s.io/sgx: 1}, requests: {sgx.k8s.io/sgx: 2", "see the finding"),
        ("kubernetes.azure.com/sgx_epc_mem_in_MiB: &ten 10", "by hand"),
        ("kubernetes.azure.com/sgx_epc_mem_in_MiB: !!int 10", "by hand"),
        ("intel.com/sgx: 1", "cannot hold an enclave"),
    ],
)
def test_what_is_not_safe_is_left_as_it_is_and_said(limits: str, reason: str) -> None:
    done = rename_dialects(job(limits).encode(), "a.yaml")
    assert done.raw == job(limits).encode()
    assert done.renames == ()
    assert done.left
    assert all(reason in one.reason for one in done.left)
    assert all(one.where == "a.yaml:9" for one in done.left)


def test_names_outside_of_pods_are_not_touched() -> None:
    text = "apiVersion: v1\nkind: ConfigMap\ndata: {limits: {sgx.k8s.io/sgx: 1}} # sgx.k8s.io/sgx: 1\n"
    assert fixed(text) == text


def test_what_is_no_manifest_is_refused() -> None:
    with pytest.raises(MalformedError):
        rename_dialects(b"{{ .Values.x }}", "a")
