"""Show where images look abnormal: `fcdd-dist explain` as the entry point of a Ray job, with the same options.

    ray job submit --working-dir . -- python jobs/explain.py /runs/screws /incoming --out /explained

It runs where the job's entry point runs: on the head node, unless `ray job submit` says otherwise.
Paths must be absolute. The package need not be installed on the nodes, only what it depends on: the working folder
that is submitted holds it, and Ray puts that folder on the path of the job and of its workers.
"""

import sys

from fcdd_dist.cli import main

sys.exit(main(["explain", *sys.argv[1:]]))
