r"""Train and test many detectors: `fcdd-dist sweep` as the entry point of a Ray job, with the same options.

    ray job submit --working-dir . -- python jobs/sweep.py \
        fmnist --data s3://team/data/fmnist --nominal all --seeds 5 --storage s3://team/runs --name table3

The trials run on the cluster that the job was submitted to (RAY_ADDRESS); this entry point only hands them out. A
stopped job loses nothing: the same command goes on. Paths must be absolute, or URLs. The package need not be installed
on the nodes, only what it depends on: the working folder that is submitted holds it, and Ray puts that folder on the
path of the job and of its trials.
"""

import sys

from fcdd_dist.cli import main

sys.exit(main(["sweep", *sys.argv[1:]]))
