import pytest

from bastide.cluster import policy_file
from bastide.cluster.policy_file import PolicyFile
from bastide.errors import BastideError
from bastide.pods.policy import DEFAULT_POLICY, PlainPods

HEAD = "apiVersion: bastide.dev/v1alpha1\nkind: AdmissionPolicy\nspec:\n"


def test_without_a_file_the_default_is_in_force():
    file = PolicyFile(None)
    file.look()
    assert (file.now.policy, file.fault) == (DEFAULT_POLICY, "")


def test_another_content_comes_into_force_and_a_broken_one_does_not(tmp_path):
    path = tmp_path / "policy.yaml"
    path.write_text(HEAD + "  plainPods: deny\n  nodeClasses: [DC4s_v3]\n")
    file = PolicyFile(path)
    assert file.now.policy.plain_pods is PlainPods.DENY
    assert next(iter(file.now.declared_classes.values())) > 0
    path.write_text(HEAD + "  plainPods: allow\n")
    file.look()
    assert (file.now.policy.plain_pods, file.reloads, file.fault) == (PlainPods.ALLOW, 1, "")
    for broken in (HEAD + "  plainPods: perhaps\n", HEAD + "  nodeClasses: [none-such]\n", "{", HEAD + "  new: 1\n"):
        path.write_text(broken)
        file.look()
        assert file.now.policy.plain_pods is PlainPods.ALLOW
        assert file.fault
    path.unlink()
    file.look()
    assert "admission-policy.file" in file.fault
    path.write_text(HEAD + "  plainPods: allow\n")
    file.look()
    assert (file.fault, file.reloads) == ("", 1)


def test_a_broken_file_at_the_start_is_an_error(tmp_path, monkeypatch):
    path = tmp_path / "policy.yaml"
    with pytest.raises(BastideError):
        PolicyFile(path)
    path.write_text("kind: Pod\n")
    with pytest.raises(BastideError):
        PolicyFile(path)
    monkeypatch.setattr(policy_file, "_LARGEST", 10)
    path.write_text(HEAD + "  plainPods: allow\n")
    with pytest.raises(BastideError, match="at most 10 bytes"):
        PolicyFile(path)
