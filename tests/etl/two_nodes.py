"""A Ray cluster of two nodes on this machine, in a process of its own, until its input ends.

    python -m tests.etl.two_nodes

Prints the cluster's address. Nothing of the caller's environment or folder reaches the nodes that
a node elsewhere would not have.
"""

from __future__ import annotations

import sys

from ray.cluster_utils import Cluster

NODE = {"num_cpus": 1, "object_store_memory": 80 << 20}


def main() -> None:
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    cluster.add_node(**NODE)
    print(cluster.address, cluster.head_node.get_session_dir_path(), flush=True)
    sys.stdin.read()
    cluster.shutdown()


if __name__ == "__main__":
    main()
