"""The engine's store of traces: how much it keeps, and what it keeps apart."""

from __future__ import annotations

import json

from sluice_harness.compat.tracing.store import TraceStore


def document(trace: int, segment: int, **more: object) -> str:
    ids = {"trace_id": f"1-65aa0000-{trace:024x}", "id": f"{segment:016x}"}
    return json.dumps({**ids, "name": "x", "start_time": 1.0, "end_time": 2.0, **more})


def kept(store: TraceStore) -> list[tuple[int, list[int]]]:
    """Return which traces there are, each with its segments."""
    return [(int(one.id[-24:], 16), [int(each, 16) for each in one.segments]) for one in store.all()]


def test_the_oldest_traces_go_when_there_are_too_many_segments() -> None:
    # given a store of four segments, when a fifth comes
    store = TraceStore(kept=4)
    for trace, segment in ((1, 1), (1, 2), (2, 3), (3, 4)):
        store.put(document(trace, segment))
    assert kept(store) == [(1, [1, 2]), (2, [3]), (3, [4])]
    store.put(document(2, 5))

    # then the trace that was first heard of is gone, whole
    assert kept(store) == [(2, [3, 5]), (3, [4])]
    assert store.get(f"1-65aa0000-{1:024x}") is None


def test_a_segment_sent_again_takes_no_more_room() -> None:
    store = TraceStore(kept=2)
    for _ in range(5):
        store.put(document(1, 1))
    store.put(document(2, 2))
    assert kept(store) == [(1, [1]), (2, [2])]


def test_a_trace_that_is_too_large_by_itself_is_not_kept() -> None:
    store = TraceStore(kept=2)
    for segment in range(3):
        store.put(document(1, segment))
    assert kept(store) == []
    store.put(document(2, 9))
    assert kept(store) == [(2, [9])]


def test_a_trace_that_is_being_read_does_not_change() -> None:
    # given a trace in a reader's hands, when another segment of it comes, then the reader's is as it was
    store = TraceStore()
    store.put(document(1, 1))
    (read,) = store.all()
    store.put(document(1, 2))
    assert [one["id"] for one in read.documents()] == [f"{1:016x}"]
    assert read.duration == 1.0
