"""A copy of a group's state, and putting it back: where it came from, or before another log of the input topic.

What makes it whole is the order. The commits are read first, the changelog after them, to the end that it has then. A
commit says that every point below its replay point is in an acknowledged snapshot, and that stays true; snapshots that
are newer than the commit only hold more. So workers may run meanwhile.

Back where it came from, a copy keeps its offsets: the input topic has the id that it had. The next owner reads raw-data
again from the replay point, as after a crash, and emits what is beyond the last result.

Before another log (a topic that was made again, another cluster, whatever a mirror made of it) the offsets in commits,
snapshots and ids of results mean nothing. Then every source's last snapshot is written anew, as if it held everything
before the offset at which the group begins, and the commit says so. That is right if the copy was made when all points
were in snapshots and nothing followed: *drained*.
"""
