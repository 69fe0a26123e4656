"""/mutate for ResourceQuotas: what old names say is said in the canonical name, by which pods are counted.

Source: Kubernetes "Resource Quotas"; ``pods.quota``.
"""

from bastide.cluster.admission.review import Answer, Review, Verb
from bastide.cluster.admission.words import malformed
from bastide.cluster.quotas import quota_changes, told
from bastide.errors import MalformedError
from bastide.kube.json_patch import operations_of


def mutate_quota(review: Review) -> Answer:
    """Answer a review of a ResourceQuota: patched and told of, or refused where it cannot be read.

    Nothing of the cluster has to be known for it, so that it works from the first moment.
    """
    try:
        changes = quota_changes(review.new, review.old if review.verb is Verb.UPDATE else None)
    except MalformedError as error:
        return Answer(refusal=malformed(error))
    if not changes:
        return Answer()
    return Answer(patch=operations_of(review.new, changes), warnings=(told(changes),))
