"""Group commit: who waits for what, and what happens to them when the database fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import pytest

from control_api.errors import DatabaseUnavailable, Overloaded
from control_api.workers import batcher
from control_api.workers.batcher import GroupCommit

Item = tuple[str, int]
Write = Callable[[Sequence[Item]], Awaitable[Sequence[int]]]


class Writer:
    """Notes the batches; waits where the test wants it to."""

    def __init__(self) -> None:
        self.batches: list[list[Item]] = []
        self.go = asyncio.Event()
        self.go.set()
        self.fails: Exception | None = None

    async def __call__(self, items: Sequence[Item]) -> list[int]:
        self.batches.append(list(items))
        await self.go.wait()
        if self.fails:
            raise self.fails
        return [number for _, number in items]


@asynccontextmanager
async def running(write: Write, patience: float = 0.0) -> AsyncIterator[GroupCommit[Item, int]]:
    commits: GroupCommit[Item, int] = GroupCommit(write, lambda item: item[0], patience=patience)
    commits.start()
    yield commits
    await commits.close()


async def test_everyone_is_answered_with_their_own_answer() -> None:
    async with running(Writer()) as commits:
        answers = await asyncio.gather(*(commits.submit((f"w{n}", n)) for n in range(200)))
    assert answers == list(range(200))


async def test_what_arrives_during_a_write_becomes_one_batch() -> None:
    writer = Writer()
    async with running(writer) as commits:
        writer.go.clear()
        first = asyncio.create_task(commits.submit(("a", 1)))
        await asyncio.sleep(0.01)
        others = [asyncio.create_task(commits.submit((f"w{n}", n))) for n in range(5)]
        await asyncio.sleep(0.01)
        writer.go.set()
        await asyncio.gather(first, *others)
    assert [len(batch) for batch in writer.batches] == [1, 5]


async def test_nobody_is_answered_before_the_commit() -> None:
    writer = Writer()
    async with running(writer) as commits:
        writer.go.clear()
        task = asyncio.create_task(commits.submit(("a", 1)))
        await asyncio.sleep(0.02)
        assert writer.batches
        assert not task.done()
        writer.go.set()
        assert await task == 1


async def test_a_small_batch_waits_a_little_for_company() -> None:
    writer = Writer()
    async with running(writer, patience=0.05) as commits:
        first = asyncio.create_task(commits.submit(("a", 1)))
        await asyncio.sleep(0.01)
        await asyncio.gather(first, commits.submit(("b", 2)))
    assert [len(batch) for batch in writer.batches] == [2]


async def test_who_has_waited_in_the_write_before_does_not_wait_for_company_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    writer, loop = Writer(), asyncio.get_running_loop()
    clock, passed = loop.time, 0.0
    monkeypatch.setattr(loop, "time", lambda: clock() + passed)
    async with running(writer, patience=60) as commits:
        writer.go.clear()
        full = [asyncio.create_task(commits.submit((f"w{n}", n))) for n in range(batcher.FULL)]
        await asyncio.sleep(0.01)
        late = asyncio.create_task(commits.submit(("late", 1)))
        await asyncio.sleep(0.01)
        passed = 61
        writer.go.set()
        async with asyncio.timeout(5):
            await asyncio.gather(late, *full)
    assert [len(batch) for batch in writer.batches] == [batcher.FULL, 1]


async def test_a_full_batch_does_not_wait() -> None:
    writer = Writer()
    async with running(writer, patience=60) as commits:
        async with asyncio.timeout(5):
            await asyncio.gather(*(commits.submit((f"w{n}", n)) for n in range(batcher.FULL)))
    assert len(writer.batches) == 1


async def test_two_items_of_one_key_are_in_two_batches_in_their_order() -> None:
    writer = Writer()
    async with running(writer) as commits:
        writer.go.clear()
        tasks = [asyncio.create_task(commits.submit(("x", 0)))]
        await asyncio.sleep(0.01)
        tasks += [
            asyncio.create_task(commits.submit(item)) for item in (("a", 1), ("a", 2), ("b", 3), ("a", 4))
        ]
        await asyncio.sleep(0.01)
        writer.go.set()
        await asyncio.gather(*tasks)
    assert writer.batches == [[("x", 0)], [("a", 1), ("b", 3)], [("a", 2)], [("a", 4)]]


async def test_a_batch_that_fails_fails_for_its_own_and_not_for_the_next() -> None:
    writer = Writer()
    async with running(writer) as commits:
        writer.fails = DatabaseUnavailable()
        with pytest.raises(DatabaseUnavailable):
            await commits.submit(("a", 1))
        writer.fails = ValueError("a fault of ours")
        with pytest.raises(ValueError, match="a fault of ours"):
            await commits.submit(("a", 1))
        writer.fails = None
        assert await commits.submit(("a", 1)) == 1


async def test_a_client_that_went_away_does_not_harm_the_others() -> None:
    writer = Writer()
    async with running(writer) as commits:
        writer.go.clear()
        gone, stays = (asyncio.create_task(commits.submit((name, 1))) for name in ("a", "b"))
        await asyncio.sleep(0.01)
        gone.cancel()
        await asyncio.sleep(0)
        writer.go.set()
        assert await stays == 1


async def test_closing_writes_what_has_arrived_and_refuses_the_rest() -> None:
    writer = Writer()
    async with running(writer, patience=60) as commits:
        waiting = asyncio.create_task(commits.submit(("a", 1)))
        await asyncio.sleep(0.01)
        await commits.close()
        assert await waiting == 1
        with pytest.raises(DatabaseUnavailable):
            await commits.submit(("b", 2))


async def test_a_queue_that_is_too_long_turns_away_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batcher, "WAITING", 2)
    writer = Writer()
    async with running(writer) as commits:
        writer.go.clear()
        tasks = [asyncio.create_task(commits.submit((f"w{n}", n))) for n in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await commits.submit(("late", 9))
        writer.go.set()
        assert await asyncio.gather(*tasks) == [0, 1]


async def test_an_answer_that_cannot_be_told_costs_the_others_nothing() -> None:
    def broken(_: object) -> None:
        raise RuntimeError("a bug")

    async with running(Writer()) as commits:
        commits.add(("a", 1), broken)
        assert await commits.submit(("b", 2)) == 2
        assert await commits.submit(("c", 3)) == 3
