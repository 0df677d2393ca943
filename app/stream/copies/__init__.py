"""Backup of a group's state, and its restore: for the same log of the input topic, or for another one.

A backup is consistent because of its order: the commits are read first, then the changelog to its end. A commit says
that every point below its replay point is in an acknowledged snapshot, and that stays true; newer snapshots only
contain more. So workers may run meanwhile.

For the same log (the input topic has the same id) a copy keeps its offsets. The next owner reads raw-data again from
the replay point, as after a crash, and emits the results beyond the last one.

For another log (a recreated topic, another cluster, a mirror) the offsets in commits, snapshots and ids of results are
not valid. Then the last snapshot of every source is rewritten, as if it contained everything before the offset at which
the group begins, and the commit says so. This is exact if the copy was made when all points were in snapshots and no
others followed: *drained*.
"""
