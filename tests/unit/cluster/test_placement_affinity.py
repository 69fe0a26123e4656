import pytest

from bastide.cluster.placement.affinity import named_nodes, preferences, required_terms
from bastide.errors import MalformedError

LABELS = {"zone": "a", "gen": "3", "word": "x", "wide": "9223372036854775808"}


def matches(*terms, name="n1"):
    return any(term.matches(name, LABELS) for term in required_terms({"nodeSelectorTerms": list(terms)}))


def expression(key, operator, *values):
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


@pytest.mark.parametrize(
    "term",
    [
        expression("zone", "In", "b", "a"),
        expression("zone", "NotIn", "b"),
        expression("absent", "NotIn", "b"),
        expression("zone", "Exists"),
        expression("absent", "DoesNotExist"),
        expression("gen", "Gt", "2"),
        expression("gen", "Lt", "4"),
        {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]},
        {"matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": ["n2"]}]},
    ],
)
def test_matches(term):
    assert matches(term)


@pytest.mark.parametrize(
    "term",
    [
        expression("zone", "In", "b"),
        expression("absent", "In", "a"),
        expression("zone", "NotIn", "a"),
        expression("absent", "Exists"),
        expression("zone", "DoesNotExist"),
        expression("gen", "Gt", "3"),
        expression("gen", "Lt", "3"),
        expression("absent", "Gt", "0"),
        expression("word", "Lt", "9"),
        expression("wide", "Gt", "0"),
        expression("gen", "Gt", "two"),
        expression("gen", "Lt", "9223372036854775808"),
        {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n2"]}]},
        {"matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": ["n1"]}]},
    ],
)
def test_does_not_match(term):
    assert not matches(term)


def test_one_of_several_terms_is_enough():
    assert matches(expression("zone", "In", "b"), expression("gen", "Exists"))


def test_all_requirements_of_a_term_must_hold():
    both = expression("zone", "Exists")["matchExpressions"] + expression("absent", "Exists")["matchExpressions"]
    assert not matches({"matchExpressions": both})


def test_fields_and_expressions_of_a_term_must_both_hold():
    field = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n2"]}]}
    assert not matches(expression("zone", "Exists") | field)


@pytest.mark.parametrize("term", [{}, None, {"matchExpressions": []}, {"matchExpressions": None, "matchFields": None}])
def test_an_empty_term_matches_no_node(term):
    assert not matches(term)
    assert matches(term, expression("zone", "Exists"))


@pytest.mark.parametrize(
    ("term", "code"),
    [
        (expression("zone", "Like", "a"), "cluster.affinity.operator"),
        (expression("zone", "In"), "cluster.affinity.values"),
        (expression("zone", "Exists", "a"), "cluster.affinity.values"),
        (expression("zone", "Gt", "1", "2"), "cluster.affinity.values"),
        ({"matchFields": [{"key": "spec.x", "operator": "In", "values": ["a"]}]}, "cluster.affinity.field"),
        ({"matchFields": [{"key": "metadata.name", "operator": "Exists"}]}, "cluster.affinity.operator"),
        (
            {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["a", "b"]}]},
            "cluster.affinity.values",
        ),
        (expression("zone", "In", 5), "cluster.pod.shape"),
    ],
)
def test_refuses_what_the_api_server_refuses_in_a_term(term, code):
    with pytest.raises(MalformedError) as caught:
        matches(term)
    assert caught.value.code == code
    assert "nodeSelectorTerms[0]" in str(caught.value.where)


@pytest.mark.parametrize("raw", [{}, None, {"nodeSelectorTerms": []}])
def test_refuses_required_affinity_without_terms(raw):
    with pytest.raises(MalformedError) as caught:
        required_terms(raw)
    assert caught.value.code == "cluster.affinity.terms"


def by_name(*names, operator="In"):
    return {"matchFields": [{"key": "metadata.name", "operator": operator, "values": [name]} for name in names]}


@pytest.mark.parametrize(
    ("terms", "names"),
    [
        ([by_name("n1")], {"n1"}),
        ([by_name("n1"), by_name("n2")], {"n1", "n2"}),
        ([by_name("n1", "n2")], set()),
        ([by_name("n1") | expression("zone", "Exists")], {"n1"}),
        ([by_name("n1"), expression("zone", "Exists")], None),
        ([by_name("n1", operator="NotIn")], None),
        ([expression("zone", "Exists")], None),
    ],
)
def test_knows_the_nodes_that_alone_can_match(terms, names):
    assert named_nodes(required_terms({"nodeSelectorTerms": terms})) == names


def test_a_pod_without_affinity_names_no_nodes():
    assert named_nodes(None) is None


def test_reads_preferred_terms_with_their_weights():
    first, second = preferences(
        [{"weight": 7, "preference": expression("zone", "In", "a")}, {"weight": 100, "preference": {}}]
    )
    assert (first.weight, first.term.matches("n1", LABELS)) == (7, True)
    assert (second.weight, second.term.matches("n1", LABELS)) == (100, False)
    assert preferences(None) == ()


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        ({"weight": 0, "preference": {}}, "cluster.affinity.weight"),
        ({"weight": 101, "preference": {}}, "cluster.affinity.weight"),
        ({"weight": "1", "preference": {}}, "cluster.affinity.weight"),
        ({"weight": True, "preference": {}}, "cluster.affinity.weight"),
        ({"preference": {}}, "cluster.affinity.weight"),
        ({"weight": 1, "preference": expression("gen", "Gt", "two")}, "cluster.affinity.values"),
        ({"weight": 1, "preference": expression("zone", "Like", "a")}, "cluster.affinity.operator"),
        ({"weight": 1, "preference": []}, "cluster.pod.shape"),
        ("zone", "cluster.pod.shape"),
    ],
)
def test_refuses_a_preferred_term_with_which_the_scheduler_cannot_score(raw, code):
    with pytest.raises(MalformedError) as caught:
        preferences([raw])
    assert caught.value.code == code
