r"""Turn images into a data set: `fcdd-dist shard` as the entry point of a Ray job, with the same options.

    ray job submit --working-dir . -- python jobs/shard.py \
        fmnist --source /data/fashion-mnist --exposure /data/emnist --out /data/fmnist

The tasks run on all CPUs of the cluster that the job was submitted to (or --workers N of them); this entry point only
orchestrates, and a stopped job goes on by the same command. Paths must be absolute, and seen by all nodes.
The package need not be installed on the nodes, only what it depends on: the working folder that is submitted holds it,
and Ray puts that folder on the path of the job and of its workers.
"""

import sys

from fcdd_dist.cli import main

sys.exit(main(["shard", *sys.argv[1:]]))
