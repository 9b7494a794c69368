"""Placement groups of actors that were killed, on a real Ray."""

from __future__ import annotations

import time

import pytest

from fcdd_dist.cluster import local
from fcdd_dist.cluster.orphans import remove_orphans
from fcdd_dist.cluster.placement import Placement

pytestmark = pytest.mark.ray


def test_groups_of_dead_actors_go_and_all_others_stay(monkeypatch):
    monkeypatch.setattr(local, "cores", lambda: 3)
    with local.session(None, Placement(cpus=1), [].append):
        import ray
        from ray.util import placement_group, placement_group_table

        class Maker:
            def make(self) -> str:
                group = placement_group([{"CPU": 1}])
                ray.get(group.ready())
                return group.id.hex()

        makers = [ray.remote(num_cpus=0)(Maker).remote() for _ in range(2)]
        orphan, living = ray.get([maker.make.remote() for maker in makers])
        ours = placement_group([{"CPU": 1}])
        ray.get(ours.ready())

        def there() -> set[str]:
            return {name for name, group in placement_group_table().items() if group["state"] != "REMOVED"}

        ray.kill(makers[0])
        deadline = time.monotonic() + 10
        while len(there()) == 3 and time.monotonic() < deadline:  # else there would be nothing to do for us
            remove_orphans()
            time.sleep(0.1)
        assert there() == {living, ours.id.hex()}
        assert orphan not in there()
