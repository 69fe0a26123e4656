"""Where pods go: kube-scheduler's rules as a function of values.

Public API: ``Node``, ``node_of_class``, ``Taint``, ``Effect``, ``sgx_node_taints``, ``Requirements``,
``Pod``, ``Strategy``, ``place``, ``Placement``, ``Reason``; ``Scheduler`` and ``Score`` for one pod after another.
"""

from bastide.cluster.placement.model import Node, Placement, Pod, Reason, Requirements
from bastide.cluster.placement.nodes import node_of_class
from bastide.cluster.placement.room import Strategy
from bastide.cluster.placement.scheduler import Scheduler, place
from bastide.cluster.placement.scoring import Score
from bastide.cluster.placement.taints import Effect, Taint, Toleration, sgx_node_taints

__all__ = [
    "Effect",
    "Node",
    "Placement",
    "Pod",
    "Reason",
    "Requirements",
    "Scheduler",
    "Score",
    "Strategy",
    "Taint",
    "Toleration",
    "node_of_class",
    "place",
    "sgx_node_taints",
]
