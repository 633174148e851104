"""What of contexts is different in the asyncio client: streams and iterators."""

import numpy as np
import pytest
import pytest_asyncio

from mnemod import AsyncClient, Context, OutOfRangeError, RetryPolicy, Tokens

pytestmark = pytest.mark.asyncio
DIMENSION = 4


def rows(count, first=0):
    made = np.ones((count, DIMENSION), np.float32)
    made[:, 0] = np.arange(first, first + count)
    return made


@pytest_asyncio.fixture
async def context(server):
    retry = RetryPolicy(attempts=5, initial_backoff=0.001, max_backoff=0.001)
    async with AsyncClient(server.target, deadline=10.0, retry=retry) as client:
        yield await client.create_context(Context("c", DIMENSION))


async def test_what_is_appended_is_read_back(context):
    result = await context.append(Tokens(rows(250)))
    assert result.next_position == 250
    read = [run.embeddings async for run in context.read()]
    assert len(read) == 3 and np.array_equal(np.vstack(read), rows(250))
    summaries = [summary async for summary in context.summaries(128)]
    assert [summary.count for summary in summaries] == [128, 122]


async def test_lost_answers_lead_to_repeats_and_never_to_doubles(server, context):
    server.lose_answers_after = [2, 1]
    result = await context.append(Tokens(rows(2, first)) for first in range(0, 20, 2))
    assert np.array_equal(server.contexts["c"].rows, rows(20))
    assert result.repeated_batches == 1


async def test_what_the_callers_iterable_raises_comes_out(context):
    def tokens():
        yield Tokens(rows(2))
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await context.append(tokens())
    assert (await context.append(Tokens(rows(0)))).next_position == 2


async def test_errors_carry_the_position_expected(context):
    with pytest.raises(OutOfRangeError) as raised:
        await context.append(Tokens(rows(1)), first_position=9)
    assert raised.value.next_position == 0


async def test_a_reader_that_stops_half_way_ends_its_call(server, context):
    await context.append(Tokens(rows(1000)))
    reader = context.read()
    assert (await reader.__anext__()).first_position == 0
    await reader.aclose()
    result = await context.search(np.ones(DIMENSION), k=1)
    assert result.hits[0][0].position == 999


async def test_contexts_are_found_and_listed(server, context):
    async with AsyncClient(server.target) as client:
        assert (await client.get_context("c")).info.id == context.info.id
        assert [info.context.name async for info in client.list_contexts()] == ["c"]
        await context.append(Tokens(rows(2)))
        found = await client.search_contexts(np.ones(DIMENSION), contexts=["c"])
        assert len(found.hits[0]) == 2
        assert (await context.describe()).info.tokens == 2
        assert await context.seal() == 2
        assert await context.delete() == 2
