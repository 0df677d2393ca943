"""A worker killed while points are posted to it. ``python -m tests.chaos --posts 20`` does it twenty times."""

from collections import Counter

from chaos.posts import EARLY, Found, judged, play


def test_a_worker_that_answers_before_kafka_does_is_caught(kafka, tmp_path):
    """tests/integration/test_posts.py kills one that does not."""
    how = {"per_s": 500.0, "bulk": 50, "apart_s": (0.5, 0.6), "revives": False}
    found = play(kafka.bootstrap_servers, tmp_path, kills=1, program=EARLY, **how)
    assert found.kills == 1 and len(found.taken) > 100
    assert any("is lost" in said or "is there" in said for said in found.findings)


def test_the_judge_flags_what_is_lost_wrong_without_result_or_never_taken():
    points = {f"raw:0:{n}:0": (f"posted-{n}", float(n)) for n in range(4)}
    once = Counter(list(points))
    assert judged(Found(4, dict(points)), points, once) == []
    assert (
        judged(Found(4, dict(points)), {**points, "raw:0:4:0": ("posted-1", 1.0)}, once + Counter(["raw:0:4:0"])) == []
    )

    def found(taken=points, there=points, results=once, twice=()):
        return " ".join(judged(Found(4, dict(taken), list(twice)), there, results))

    less = {id: point for id, point in points.items() if id != "raw:0:2:0"}
    assert "raw:0:2:0: ('posted-2', 2.0) was said to be written, and is lost" in found(
        there=less, results=Counter(list(less))
    )
    assert "('posted-9', 2.0) is there" in found(there={**points, "raw:0:2:0": ("posted-9", 2.0)})
    assert "raw:0:2:0: 0 results" in found(results=Counter(list(less)))
    assert "raw:0:2:0: 2 results" in found(results=once + Counter(["raw:0:2:0"]))
    assert "1 points were never taken" in found(taken=less)
    assert "given to two points" in found(twice=["raw:0:1:0"])
