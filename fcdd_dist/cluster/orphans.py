"""Room on a cluster that nobody uses any more, and Ray keeps.

A placement group that an actor has made stays until its job ends, though the actor be dead. Where the controller of
Ray Train is killed, a helper of Ray's removes its group, but has to ask Ray's dashboard who is alive, and in a private
Ray, which has none, it is not started. Whoever trains after it in the same job would wait for that room for ever.
"""

from __future__ import annotations


def remove_orphans() -> None:
    """Removes the placement groups of this process's job whose actors are dead."""
    import ray
    from ray import ActorID, PlacementGroupID
    from ray._private.state import state
    from ray.core.generated.gcs_pb2 import PlacementGroupTableData
    from ray.util import remove_placement_group
    from ray.util.placement_group import PlacementGroup

    job = ray.get_runtime_context().get_job_id()
    for row in state._connect_and_get_accessor().get_placement_group_table():
        group = PlacementGroupTableData.FromString(row)
        made_by_actor = not ActorID(group.creator_actor_id).is_nil()  # else Ray says that its actor is dead, too
        ours = made_by_actor and group.creator_job_id.hex() == job
        if ours and group.creator_actor_dead and group.state != PlacementGroupTableData.REMOVED:
            remove_placement_group(PlacementGroup(PlacementGroupID(group.placement_group_id)))
