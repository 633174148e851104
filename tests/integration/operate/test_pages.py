"""Metrics, probes and the status page of a daemon that does real work."""

import json
import re
import shutil
import subprocess
import urllib.error
import urllib.request

import numpy
import pytest

from mnemod import Client, Space, chain
from tests.integration.operate.daemon import Daemon

LEVELS = ["l1_ram", "l2_ram", "l3_disk", "archive"]


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    with Daemon(tmp_path_factory.mktemp("operate")) as started:
        yield started


@pytest.fixture(scope="module")
def worked(daemon):
    """The daemon after 20 puts, 20 gets, a match of 30 and a miss."""
    blocks = {b"key-%03d" % i: numpy.random.default_rng(i).bytes(64 << 10) for i in range(20)}
    with Client(daemon.ready["grpc"], deadline=30.0) as client:
        space = client.open_space(Space.opaque("operate", tokens_per_block=16))
        drive(space, blocks)
    return daemon


def drive(space, blocks):
    keys = list(blocks)
    assert all(result.ok for result in space.put(chain(keys, blocks.values())))
    match = space.match([*keys, *(b"absent-%d" % i for i in range(10))])
    assert match.blocks == len(keys)
    for key, data in blocks.items():
        assert bytes(space.get([key])[0].data) == data


def series(samples, name):
    return {key: value for key, value in samples.items()
            if key == name or key.startswith(name + "{")}


def test_promtool_finds_nothing_to_say(worked):
    promtool = shutil.which("promtool")
    assert promtool, "Debian's package prometheus has it"
    text = worked.get("/metrics")[1]
    result = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True,
                            text=True, check=False)
    assert (result.returncode, result.stdout + result.stderr) == (0, "")


def test_core_metrics_are_there(worked):
    names = {key.split("{")[0] for key in worked.metrics()}
    for name in """mnemo_grpc_requests_total mnemo_grpc_request_duration_seconds_count
                   mnemo_queue_delay_seconds_count mnemo_inflight_bytes mnemo_lookup_tokens_total
                   mnemo_hit_tokens_total mnemo_level_latency_seconds_count mnemo_level_used_bytes
                   mnemo_level_capacity_bytes mnemo_evictions_total mnemo_codec_ratio
                   mnemo_block_idle_before_evict_seconds_count
                   mnemo_wal_fsync_duration_seconds_count mnemo_corruption_detected_total
                   mnemo_qos_objective_ratio mnemo_build_info mnemo_insecure mnemo_ready
                   process_resident_memory_bytes""".split():
        assert name in names, name


def test_calls_add_up(worked):
    samples = worked.metrics()
    counts = series(samples, "mnemo_grpc_request_duration_seconds_count")
    assert counts
    for key, count in counts.items():
        method = re.search(r'method="([^"]+)"', key).group(1)
        calls = [value for name, value in series(samples, "mnemo_grpc_requests_total").items()
                 if f'method="{method}"' in name]
        assert sum(calls) == count, method
    put = [value for name, value in series(samples, "mnemo_grpc_requests_total").items()
           if 'method="mnemo.v1.BlockService/Put"' in name and 'code="OK"' in name]
    assert sum(put) >= 1


def test_tokens_and_levels_add_up(worked):
    samples = worked.metrics()
    assert samples["mnemo_lookup_tokens_total"] == 30 * 16
    assert sum(series(samples, "mnemo_hit_tokens_total").values()) == 20 * 16
    lookups = [samples[f'mnemo_level_lookups_total{{level="{level}"}}'] for level in LEVELS]
    hits = [samples[f'mnemo_level_hits_total{{level="{level}"}}'] for level in LEVELS]
    assert sum(hits) == 20
    for i in range(4):
        assert lookups[i] - hits[i] == (lookups[i + 1] if i < 3 else 0), (lookups, hits)
    for level, hit in zip(LEVELS, hits):
        assert samples[f'mnemo_level_latency_seconds_count{{level="{level}"}}'] == hit
        live = samples[f'mnemo_level_live_bytes{{level="{level}"}}']
        assert live <= samples[f'mnemo_level_used_bytes{{level="{level}"}}']
    assert samples['mnemo_level_used_bytes{level="l1_ram"}'] >= 20 * (64 << 10)
    assert samples["mnemo_parts"] == 20
    assert samples["mnemo_spaces"] == 1
    assert samples["mnemo_inflight_bytes"] == 0


def test_histograms_are_cumulative(worked):
    text = worked.get("/metrics")[1]
    last = {}
    for line in text.splitlines():
        match = re.match(r'(\w+_bucket)\{(.*)\} (\d+)', line)
        if not match:
            continue
        labels = re.sub(r',?le="[^"]*"', "", match.group(2))
        value = int(match.group(3))
        assert value >= last.get((match.group(1), labels), 0), line
        last[(match.group(1), labels)] = value
    assert last


def test_scrape_is_small_and_names_no_key(worked):
    text = worked.get("/metrics")[1]
    assert len(worked.metrics()) < 1000
    assert "key-0" not in text and "operate" not in text


def test_probes_say_yes(worked):
    for path in ("/livez", "/readyz", "/startupz"):
        assert worked.get(path, "probes")[0] == 200


def test_probe_port_has_nothing_else(worked):
    for path in ("/", "/metrics", "/status.json", "/livez/", "/../metrics"):
        assert worked.get(path, "probes")[0] == 404, path


def test_status_page_and_its_twin_agree(worked):
    status, page, headers = worked.get("/")
    assert status == 200
    assert headers["content-type"].startswith("text/html")
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert "<script" not in page and "http://" not in page and "https://" not in page
    twin = json.loads(worked.get("/status.json")[1])
    assert twin["phase"] == "ready" and "ready" in page
    assert [level["level"] for level in twin["levels"]] == LEVELS
    assert all(level in page for level in LEVELS)
    assert twin["levels"][0]["parts"] == 20
    assert twin["node_id"] in page
    put = [m for m in twin["methods"] if m["method"] == "mnemo.v1.BlockService/Put"]
    assert put and put[0]["calls"] >= 1 and put[0]["errors"] == 0


def test_metrics_port_takes_no_writes(worked):
    request = urllib.request.Request(f"http://{worked.ready['metrics']}/metrics", data=b"x",
                                     method="POST")
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(request, timeout=10)
    assert error.value.code == 405
