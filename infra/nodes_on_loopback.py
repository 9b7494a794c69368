"""Run by ``infra/local-cluster`` where nodes can have no namespaces: head and nodes as processes on 127.0.0.1.

    python infra/nodes_on_loopback.py HOME GCS_PORT DASHBOARD_PORT CPUS

Ray lets no node join a head on loopback but through ``ray.cluster_utils.Cluster``, and only from the process that
holds it: this one. It keeps to ``HOME/wanted.json``, a list of nodes' names, and tells in ``HOME/present.json`` what
is there. A node that is wanted no more dies like a machine without power: at once, and with all that it runs.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path

import local_service
from local_service import free_ports
from ray._common.utils import reset_ray_address
from ray._private.utils import read_ray_address, write_ray_address
from ray.cluster_utils import Cluster

EVERY_S = 0.1
NODE = {"node_ip_address": "127.0.0.1", "num_gpus": 0, "object_store_memory": 256 * 2**20}


def main(home: Path, port: int, dashboard: int, cpus: int) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    agent, client = free_ports(2)
    before = read_ray_address()  # what `ray.init()` of this machine joins: not us
    cluster = Cluster(initialize_head=True, head_node_args={
        **NODE, "num_cpus": 0, "node_name": "head", "gcs_server_port": port, "include_dashboard": True,
        "dashboard_host": "127.0.0.1", "dashboard_port": dashboard, "dashboard_agent_listen_port": agent,
        "ray_client_server_port": client, "temp_dir": str(home)})
    write_ray_address(before) if before else reset_ray_address()
    write_ray_address(cluster.address, str(home))  # where our jobs look; else they join any Ray of this machine
    try:
        nodes: dict = {}
        while True:
            wanted = json.loads((home / "wanted.json").read_text())
            for name in [each for each in nodes if each not in wanted]:
                node = nodes.pop(name)
                for process in node.all_processes["raylet"]:
                    local_service.kill([*local_service.descendants(process.process.pid), process.process.pid])
                cluster.remove_node(node, allow_graceful=False)
            for name in [each for each in wanted if each not in nodes]:
                nodes[name] = cluster.add_node(
                    **NODE, num_cpus=cpus, node_name=name,
                    temp_dir=str(home.with_name(name)))  # nodes that share one remove the folders of each other's jobs
            local_service.write(home / "present.json", list(nodes))
            time.sleep(EVERY_S)
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]), *(int(each) for each in sys.argv[2:5]))
