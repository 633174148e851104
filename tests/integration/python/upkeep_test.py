"""Summaries, demotion and promotion of contexts in the real daemon, and kill -9 amid them."""

import os
import random
import time

import numpy as np
import pytest

from mnemod import Client, Context, Level, Tokens
from tests.integration.operate.daemon import Daemon, until

DIMENSION = 64
RUN = 2048
RUN_BYTES = RUN * DIMENSION * 2  # 256 KiB: four are a MiB
SMALL_L3 = {"MNEMO_DISK_CONTEXTS": "1MiB", "MNEMO_UPKEEP_IDLE_WAIT": "10ms"}
CYCLES = 20


def rows(count, seed=1):
    made = np.random.default_rng(seed).standard_normal((count, DIMENSION)).astype(np.float16)
    return made.astype(np.float32)


def at(metrics, name, level):
    return metrics[f'{name}{{level="{level}"}}']


def is_done(daemon, tokens):
    """Whether every whole chunk is summarised and L3 is within its mark."""
    metrics = daemon.metrics()
    runs = at(metrics, "mnemo_context_runs", "l3_disk") + at(metrics, "mnemo_context_runs", "archive")
    return (
        metrics["mnemo_context_upkeep_sweeping"] == 0
        and metrics["mnemo_context_upkeep_waiting"] == 0
        and runs == tokens // RUN
        and at(metrics, "mnemo_context_run_bytes", "l3_disk")
        <= 0.95 * metrics["mnemo_context_l3_capacity_bytes"]
    )


def summaries_of(tokens):
    return sum(tokens // size for size in (128, 512, 2048))


def check_tokens(context, base):
    read = np.vstack([run.embeddings for run in context.read()])
    assert np.array_equal(read, base)


def check_summaries(context, base):
    """Each summary has the mean of its tokens, and its medoid, if it has one, is the nearest to all.

    Returns how many have one.
    """
    directions = base / np.linalg.norm(base, axis=1, keepdims=True)
    found = 0
    for size in (128, 512, 2048):
        position = 0
        for summary in context.summaries(size):
            assert summary.first_position == position
            end = position + summary.count
            assert np.allclose(summary.mean, base[position:end].mean(0), atol=2e-3)
            if summary.medoid_position is not None:
                near = directions[position:end] @ directions[position:end].mean(0)
                assert near[summary.medoid_position - position] >= near.max() - 1e-4
                found += 1
            position = end
        assert position == len(base)
    return found


def test_cold_runs_leave_l3_and_hot_ones_come_back(tmp_path):
    base = rows(20 * RUN + 100)
    with Daemon(tmp_path, env=SMALL_L3) as daemon:
        with Client(daemon.ready["grpc"], deadline=60.0) as client:
            context = client.create_context(Context("c", DIMENSION))
            context.append(Tokens(base))
            until(lambda: is_done(daemon, len(base)), "the upkeep never ends")
            metrics = daemon.metrics()
            assert metrics["mnemo_context_summaries_total"] == summaries_of(len(base))
            assert metrics["mnemo_context_upkeep_failures_total"] == 0
            archived = at(metrics, "mnemo_context_runs", "archive")
            assert at(metrics, "mnemo_context_run_bytes", "archive") == archived * RUN_BYTES
            assert archived >= 17

            status = client.node_status()
            assert status.contexts_waiting == 0
            assert status.context_archive_bytes == archived * RUN_BYTES
            assert status.context_l3_capacity_bytes == 1 << 20

            known = context.describe(max_runs=1024)
            assert known.summaries == summaries_of(len(base))
            assert {share.resolution: share.count for share in known.summary_shares} == {
                size: len(base) // size for size in (128, 512, 2048)
            }
            assert {share.level: share.tokens for share in known.levels} == {
                Level.L3: len(base) - archived * RUN,
                Level.DISK: archived * RUN,
            }
            # The first run has the sinks, and the end is recent.
            assert known.runs[0].level is known.runs[-1].level is Level.L3
            assert check_summaries(context, base) == summaries_of(len(base))

            # Two reads are two uses, which bring it back; the tokens are the same anywhere.
            for _ in range(2):
                (run,) = context.read(5 * RUN, 10)
                assert run.level is Level.DISK
                assert np.array_equal(run.embeddings, base[5 * RUN : 5 * RUN + 10])
            until(lambda: next(context.read(5 * RUN, 10)).level is Level.L3, "it never comes back")
            # A step is counted when it has ended.
            until(
                lambda: at(daemon.metrics(), "mnemo_context_moves_total", "l3_disk") >= 1,
                "it is not counted",
            )
            check_tokens(context, base)
            assert context.delete(wait=True) == len(base)
            until(lambda: at(daemon.metrics(), "mnemo_context_runs", "archive") == 0, "not forgotten")


@pytest.mark.parametrize("work", ["summaries", "moves"])
def test_a_daemon_killed_amid_upkeep_loses_and_doubles_nothing(tmp_path, work):
    seed = int(os.environ.get("MNEMO_TEST_SEED", random.randrange(1 << 32)))
    print(f"MNEMO_TEST_SEED={seed}")
    chance = random.Random(seed)
    # So slow that a kill comes before the end.
    env = {"MNEMO_UPKEEP_STEPS_PER_SECOND": "100" if work == "moves" else "40", "MNEMO_UPKEEP_IDLE_WAIT": "10ms"}
    if work == "moves":
        env["MNEMO_DISK_CONTEXTS"] = "1MiB"
    base = rows(0)
    amid = 0
    for cycle in range(CYCLES):
        with Daemon(tmp_path, env=env) as daemon, Client(
            daemon.ready["grpc"], deadline=60.0
        ) as client:
            context = client.create_context(Context("c", DIMENSION))
            if cycle > 0:
                assert context.info.tokens == len(base)
                check_tokens(context, base)
                check_summaries(context, base)
            more = rows(chance.randrange(6 * RUN, 10 * RUN), seed=cycle)
            context.append(Tokens(more))
            base = np.vstack([base, more])
            begun = chance.randrange(1, 4 if work == "moves" else 40)

            def far_enough():
                metrics = daemon.metrics()
                if work == "moves":
                    return at(metrics, "mnemo_context_moves_total", "archive") >= begun
                return metrics["mnemo_context_summaries_total"] >= begun

            until(far_enough, f"cycle {cycle}: no {work}")
            amid += not is_done(daemon, len(base))
            daemon.kill()
    assert amid >= CYCLES // 2
    with Daemon(tmp_path, env=SMALL_L3 if work == "moves" else {}) as daemon:
        with Client(daemon.ready["grpc"], deadline=60.0) as client:
            context = client.get_context("c")
            until(lambda: is_done(daemon, len(base)), "the upkeep never ends")
            check_tokens(context, base)
            assert check_summaries(context, base) == summaries_of(len(base))
            assert context.describe().summaries == summaries_of(len(base))
            assert daemon.metrics()["mnemo_context_upkeep_failures_total"] == 0


def test_upkeep_stops_amid_its_work(tmp_path):
    """Of which half a minute is before it."""
    base = rows(100 * RUN)
    env = {"MNEMO_UPKEEP_BYTES_PER_SECOND": "1MiB", **SMALL_L3}
    with Daemon(tmp_path, env=env) as daemon:
        with Client(daemon.ready["grpc"], deadline=60.0) as client:
            client.create_context(Context("c", DIMENSION)).append(Tokens(base))
            until(lambda: daemon.metrics()["mnemo_context_summaries_total"] > 0, "it never begins")
            assert not is_done(daemon, len(base))
        begun = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - begun < 15
        assert "event=stopped" in daemon.log_text()
