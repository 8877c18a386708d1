"""What the programs share that speak for a node in a cluster: what its broker says, how they log and end."""

from furiosa.agent.node import Node, NodeState
from furiosa.agent.program import run_program

__all__ = ["Node", "NodeState", "run_program"]
