r"""Train a detector: `fcdd-dist train` as the entry point of a Ray job, with the same options.

    ray job submit --working-dir . -- python jobs/train.py \
        fmnist --data /data/fmnist --nominal trouser --storage /runs --workers 2

The Ray Train workers run on the cluster that the job was submitted to (RAY_ADDRESS); this entry point only
orchestrates, and a stopped job leaves a committed checkpoint that the same command goes on from.
Paths must be absolute. The package need not be installed on the nodes, only what it depends on: the working folder
that is submitted holds it, and Ray puts that folder on the path of the job and of its workers.
"""

import sys

from fcdd_dist.cli import main

sys.exit(main(["train", *sys.argv[1:]]))
