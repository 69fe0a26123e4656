from time import perf_counter

import pytest
import yaml

from bastide.errors import MalformedError
from bastide.pods import yaml_reader
from bastide.pods.yaml_reader import MAX_DEPTH, MAX_DOCUMENTS, MAX_NODES, Node, compose


def read(text: str) -> object:
    (node,) = compose(text, "file")
    return node.value()


def refusal(text: str) -> MalformedError:
    with pytest.raises(MalformedError) as caught:
        list(compose(text, "file"))
    return caught.value


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("10", 10),
        ("010", 8),
        ("-0x1F", -31),
        ("0b11", 3),
        ("1_000", 1000),
        ("0", 0),
        ("1.5", 1.5),
        ("1.5e+3", 1500.0),
        ("yes", True),
        ("Off", False),
        ("~", None),
        ("", None),
        ("10Mi", "10Mi"),
        ("08", "08"),
        ("'10'", "10"),
        ("!!str 10", "10"),
        ("!!int '10'", 10),
        ("|-\n  10", "10"),
        ("=", "="),
    ],
)
def test_types_scalars_as_pyyaml_does(written: str, value: object) -> None:
    seen = read(f"a: {written}\n")

    assert seen == {"a": value}
    assert [type(found) for found in seen.values()] == [type(value)]  # type: ignore[attr-defined]


@pytest.mark.parametrize("written", ["2026-11-23", "2026-11-23T10:00:00Z", "10:20", "1:30.5"])
def test_keeps_times_as_text_as_kubernetes_does(written: str) -> None:
    assert read(f"a: {written}") == {"a": written}


@pytest.mark.parametrize(
    "written",
    [".inf", "-.INF", ".nan", "0x_", "1" * 65, "!!int ten", "!!bool maybe", "1.0e+999"],
)
def test_refuses_numbers_that_json_cannot_hold(written: str) -> None:
    assert refusal(f"a: {written}").code == "manifest.scalar"


def test_gives_keys_as_the_kubernetes_api_gets_them() -> None:
    assert read("on: 1\n10: 2\nno: 3\n") == {"true": 1, "10": 2, "false": 3}


@pytest.mark.parametrize("key", ["~", "1.10", "[a]", "{a: b}", "? [a]\n"])
def test_refuses_keys_that_are_no_text(key: str) -> None:
    assert refusal(f"{key}: b").code == "manifest.key"


def test_refuses_a_list_as_key_by_alias() -> None:
    assert refusal("a: &x [b]\n*x : c").code == "manifest.key"


@pytest.mark.parametrize(
    "mapping", ["a: 1\nb: 2\na: 3", "{1: a, b: c,\n '1': d}", "a: &x b\n*x : c\nb: d", "? &k a\n: 1\n*k : 2"]
)
def test_refuses_duplicate_keys(mapping: str) -> None:
    assert refusal(mapping).code == "manifest.duplicate-key"


def test_merges_as_pyyaml_does() -> None:
    text = """
base: &base {image: a, tty: true, env: [x]}
more: &more {image: b, stdin: true}
one: {image: c, <<: *base}
two: {<<: [*base, *more], tty: false}
three: {<<: {<<: *more}}
"""
    assert read(text) == yaml.safe_load(text)


def test_quoted_merge_key_is_a_plain_key() -> None:
    assert read("'<<': a") == {"<<": "a"}


@pytest.mark.parametrize("source", ["text", "[{a: b}, text]", "[[{a: b}]]"])
def test_refuses_to_merge_what_is_no_mapping(source: str) -> None:
    assert refusal(f"<<: {source}").code == "manifest.merge"


def test_a_merge_key_that_is_no_key_is_text() -> None:
    assert read("a: <<") == {"a": "<<"}


def test_refuses_two_merge_keys_in_one_mapping() -> None:
    assert refusal("<<: {a: b}\n<<: {c: d}").code == "manifest.duplicate-key"


def test_gives_every_alias_values_of_its_own() -> None:
    value = read("a: &x {k: [1]}\nb: *x")

    value["a"]["k"].append(2)  # type: ignore[index]
    assert value["b"] == {"k": [1]}  # type: ignore[index]


def test_an_alias_stands_on_the_line_where_it_is_used() -> None:
    (node,) = compose("a: &x\n  k: v\nb:\n  - *x\n", "file")

    lines = [found.line for path in (("a",), ("a", "k"), ("b", 0), ("b", 0, "k")) if (found := node.at(path))]
    assert lines == [1, 2, 4, 2]


@pytest.mark.parametrize("text", ["a: &x [*x]", "&x {a: *x}", "a: &x\n  <<: *x", "a: *x", "--- &x a\n--- *x"])
def test_refuses_an_alias_of_something_incomplete(text: str) -> None:
    assert refusal(text).code == "manifest.alias"


@pytest.mark.parametrize("tag", ["!!python/object:os.system", "!!binary", "!!timestamp", "!!set", "!mine", "!!int"])
def test_refuses_tags_that_json_does_not_have(tag: str) -> None:
    assert refusal(f"a: {tag} {{b: c}}").code == "manifest.tag"
    assert tag == "!!int" or refusal(f"a: {tag} b").code == "manifest.tag"


def bomb(levels: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]" for level in range(1, levels)]
    return "\n".join(lines)


def test_refuses_a_yaml_bomb_before_it_is_written_out() -> None:
    assert refusal(bomb(60)).code == "manifest.too-many-nodes"


def test_reads_aliases_that_stay_small() -> None:
    assert read(bomb(3)) == yaml.safe_load(bomb(3))


def test_counts_merged_entries_like_written_ones() -> None:
    wide = "base: &base {" + ", ".join(f"k{index}: 1" for index in range(1000)) + "}\n"
    merges = "".join(f"m{index}: {{<<: *base}}\n" for index in range(MAX_NODES // 1000))

    assert refusal(wide + merges).code == "manifest.too-many-nodes"


def test_counts_values_over_all_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_reader, "MAX_NODES", 10)

    assert len(list(compose("[a, b, c, d]\n--- [a, b, c, d]\n", "file"))) == 2
    assert refusal("[a, b, c, d]\n--- [a, b, c, d, e]\n").code == "manifest.too-many-nodes"


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ("{a: ", "}"), ("- ", "")])
def test_refuses_nesting_deeper_than_its_limit(opening: str, closing: str) -> None:
    assert isinstance(next(compose(opening * MAX_DEPTH + "x" + closing * MAX_DEPTH, "file")), Node)
    assert refusal(opening * (MAX_DEPTH + 1) + "x" + closing * (MAX_DEPTH + 1)).code == "manifest.too-deep"
    assert refusal(opening * 100_000).code == "manifest.too-deep"


def test_refuses_nesting_that_aliases_build() -> None:
    half = MAX_DEPTH // 2
    inner = "- &x " + "[" * half + "]" * half
    outer = "- " + "[" * half + "*x" + "]" * half

    assert refusal(f"{inner}\n{outer}").code == "manifest.too-deep"


def test_refuses_more_documents_than_its_limit() -> None:
    assert len(list(compose("--- a\n" * MAX_DOCUMENTS, "file"))) == MAX_DOCUMENTS
    assert refusal("--- a\n" * (MAX_DOCUMENTS + 1)).code == "manifest.too-many-documents"


def test_reads_the_same_without_the_c_library(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "a: &x {k: [1, 'two', 3.0]}\nb: {<<: *x}\nc: |\n  block\n"
    with_c = read(text)
    monkeypatch.setattr(yaml_reader, "_LOADER", yaml.SafeLoader)

    assert read(text) == with_c
    assert refusal("a: [").code == "manifest.yaml"
    assert refusal("[" * 100_000).code == "manifest.too-deep"


@pytest.mark.parametrize(("letter", "meaning"), [("y", True), ("Y", True), ("n", False), ("N", False)])
def test_single_letters_are_booleans_as_kubectl_reads_them(letter: str, meaning: bool) -> None:
    assert read(f"a: {letter}\nb: '{letter}'\n{letter}: 1") == {"a": meaning, "b": letter, str(meaning).lower(): 1}


def test_many_sources_of_one_merge_take_time_in_proportion() -> None:
    sources = ",".join(f"{{a{number}: 1}}" for number in range(30_000))
    started = perf_counter()
    (node,) = compose(f"<<: [{sources}]", "file")
    assert node.size == 30_001
    assert perf_counter() - started < 30  # seconds, on a slow machine
