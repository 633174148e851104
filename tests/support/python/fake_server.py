"""A small server of the contract in RAM, for unit tests of the Python client.

It keeps to the contract's meaning (grants, verdicts, per-part results, groups
in a match, leases, events) and nothing else: one salt folding, no levels, no
durability, no limits but those that a client's test needs. The real daemon is
what the integration tests run.
"""

from __future__ import annotations

from collections import defaultdict
from concurrent import futures
import itertools
import queue
import threading

import grpc
import xxhash

from fake_contexts import FakeContexts
from mnemod._contract import METHODS, pb

MESSAGE_BYTES = 1 << 20


def digest_of(data):
    value = xxhash.xxh3_128_intdigest(data)
    return pb.Digest(high=value >> 64, low=value & (1 << 64) - 1)


def part_of(message):
    return (message.group, message.tp_rank, message.pp_rank)


class FakeServer(FakeContexts):
    """Serves on port 0. `faults[method]` is a queue of (code, message, trailers):
    each answers one call of the method instead of the fake.
    """

    def __init__(self, grant_step=None, address="127.0.0.1:0", credentials=None):
        super().__init__()
        self.lock = threading.Lock()
        self.spaces = {}
        self.blocks = defaultdict(dict)  # (space, salt, key) -> {part: (data, offer)}
        self.pending = set()  # (space, salt, key) that somebody writes
        self.leases = {}
        self.pins = set()
        self.cancelled = []
        self.watchers = []
        self.sequence = itertools.count(1)
        self.ids = itertools.count(1000)
        self.faults = defaultdict(queue.SimpleQueue)
        self.calls = defaultdict(int)
        self.put_messages = []  # (offset, size) of each PutData
        self.metadata = []
        self.grant_step = grant_step
        self._server = grpc.server(
            futures.ThreadPoolExecutor(16), options=[("grpc.max_receive_message_length", 8 << 20)]
        )
        self._server.add_generic_rpc_handlers((self._handlers(),))
        if credentials is None:
            port = self._server.add_insecure_port(address)
        else:
            port = self._server.add_secure_port(address, credentials)
        self.target = f"127.0.0.1:{port}" if address.startswith("127") else address
        self._server.start()

    def stop(self):
        """Ends all calls; returns when the port is free."""
        for watcher in self.watchers:
            watcher.put(None)
        self._server.stop(None).wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def _handlers(self):
        server = self

        class Handlers(grpc.GenericRpcHandler):
            def service(self, details):
                for name, method in METHODS.items():
                    if method.path == details.method:
                        return server._handler(name, method)
                return None

        return Handlers()

    def _handler(self, name, method):
        kinds = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }
        kind = kinds[method.client_streaming, method.server_streaming]
        function = getattr(self, "_" + name.replace(".", "_").lower())

        def prepare(context):
            self.calls[name] += 1
            self.metadata.append(tuple(context.invocation_metadata()))
            try:
                code, message, trailers = self.faults[name].get_nowait()
            except queue.Empty:
                return
            context.set_trailing_metadata(trailers)
            context.abort(code, message)

        def unary(request, context):
            prepare(context)
            return function(request, context)

        def stream(request, context):
            prepare(context)
            yield from function(request, context)

        return kind(
            stream if method.server_streaming else unary,
            request_deserializer=method.request.FromString,
            response_serializer=method.response.SerializeToString,
        )

    def _streamservice_open(self, request, context):
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "this node serves no streams")

    # Spaces

    def _find(self, ref, context):
        with self.lock:
            for space in self.spaces.values():
                if ref.id == space.id or (ref.name and ref.name == space.name):
                    return space
        context.abort(grpc.StatusCode.NOT_FOUND, "space: not there")

    def _spaceservice_open(self, request, context):
        space = pb.Space()
        space.CopyFrom(request.space)
        with self.lock:
            there = self.spaces.get(space.name)
            if there is None and not request.must_exist:
                space.id = next(self.ids)
                self.spaces[space.name] = space
                return pb.OpenSpaceResponse(space=space, created=True)
        if there is None:
            context.abort(grpc.StatusCode.NOT_FOUND, "space: not there")
        space.id = there.id
        if space != there:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "space: differs")
        return pb.OpenSpaceResponse(space=there)

    def _spaceservice_get(self, request, context):
        space = self._find(request.space, context)
        parts = [p for k, ps in self.blocks.items() if k[0] == space.id for p in ps.values()]
        usage = pb.SpaceUsage(parts=len(parts), bytes=sum(len(data) for data, _ in parts))
        return pb.GetSpaceResponse(space=space, usage=usage)

    def _spaceservice_list(self, request, context):
        names = sorted(self.spaces)
        first = names.index(request.page_token) if request.page_token else 0
        last = first + (request.page_size or 100)
        return pb.ListSpacesResponse(
            spaces=[pb.GetSpaceResponse(space=self.spaces[name]) for name in names[first:last]],
            next_page_token=names[last] if last < len(names) else "",
        )

    def _spaceservice_update(self, request, context):
        space = self._find(request.space, context)
        space.policy.CopyFrom(request.policy)
        return pb.UpdateSpaceResponse(space=space)

    def _spaceservice_delete(self, request, context):
        with self.lock:
            name = next(
                (s.name for s in self.spaces.values() if request.space.id == s.id), request.space.name
            )
            space = self.spaces.pop(name, None)
        if space is None:
            return pb.DeleteSpaceResponse()
        return pb.DeleteSpaceResponse(parts_deleted=self._erase(lambda key: key[0] == space.id))

    def _erase(self, condition):
        with self.lock:
            gone = [key for key in self.blocks if condition(key) and key not in self.pins]
            count = sum(len(self.blocks.pop(key)) for key in gone)
        for space, _, key in gone:
            self._publish(space, pb.BlockEvent(kind=3, key=key))
        return count

    # Writing

    def _blockservice_offer(self, request, context):
        space = self._find(request.space, context)
        verdicts = [self._verdict(space, request.salt, offer) for offer in request.parts]
        wanted = any(verdict.verdict == 1 for verdict in verdicts)
        return pb.OfferResponse(verdicts=verdicts, reservation=next(self.ids) if wanted else 0)

    def _verdict(self, space, salt, offer):
        address = (space.id, salt, offer.key)
        if not 1 <= len(offer.key) <= 64:
            reason = pb.ItemError(code=3, message="key: 1 to 64 bytes")
            return pb.OfferVerdict(verdict=4, reason=reason)
        if address in self.pending:
            return pb.OfferVerdict(verdict=3)
        stored = self.blocks.get(address, {}).get(part_of(offer.part))
        if stored is not None:
            return pb.OfferVerdict(verdict=2, digest=digest_of(stored[0]))
        return pb.OfferVerdict(verdict=1)

    def _blockservice_put(self, requests, context):
        start = next(requests).start
        space = self._find(start.space, context)
        verdicts = [self._verdict(space, start.salt, offer) for offer in start.parts]
        total = sum(offer.size for offer in start.parts)
        granted = total if self.grant_step is None else min(total, self.grant_step)
        yield pb.PutResponse(grant=pb.PutGrant(verdicts=verdicts, bytes_granted=granted))
        for index, verdict in enumerate(verdicts):
            if verdict.verdict != 1:
                yield pb.PutResponse(result=self._unwanted(index, verdict))
        buffers = {index: bytearray() for index, v in enumerate(verdicts) if v.verdict == 1}
        received = 0
        for request in requests:
            data = request.data
            self.put_messages.append((data.offset, len(data.data)))
            received += len(data.data)
            if received > max(granted, MESSAGE_BYTES):
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, "data: beyond the grant")
            if data.index not in buffers:
                continue
            buffer = buffers[data.index]
            offer = start.parts[data.index]
            if data.offset != len(buffer) or data.offset + len(data.data) > offer.size:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, "data.offset: a gap")
            buffer += data.data
            if len(buffer) == offer.size:
                yield pb.PutResponse(result=self._store(space, start.salt, offer, data.index, buffer))
            if granted <= received < total:
                granted = min(total, received + self.grant_step)
                yield pb.PutResponse(grant=pb.PutGrant(bytes_granted=granted))

    def _unwanted(self, index, verdict):
        if verdict.verdict == 2:
            return pb.PutResult(index=index, outcome=2, digest=verdict.digest)
        reason = verdict.reason if verdict.verdict == 4 else pb.ItemError(code=10, message="pending")
        return pb.PutResult(index=index, error=reason)

    def _store(self, space, salt, offer, index, buffer):
        data = bytes(buffer)
        with self.lock:
            self.blocks[space.id, salt, offer.key][part_of(offer.part)] = (data, offer)
        self._publish(space.id, pb.BlockEvent(kind=1, key=offer.key, part=offer.part, level=1))
        return pb.PutResult(index=index, outcome=1, digest=digest_of(data))

    # Reading

    def _blockservice_match(self, request, context):
        space = self._find(request.space, context)
        counted = list(request.groups) or [
            i for i, group in enumerate(space.groups) if not group.optional
        ]
        addresses = [(space.id, request.salt, key) for key in request.keys]

        def has(index, group):
            return any(part[0] == group for part in self.blocks.get(addresses[index], {}))

        def supports(group, length):
            kind = space.groups[group].kind
            if kind == 2:
                window = -(-space.groups[group].window_tokens // space.tokens_per_block)
                return all(has(i, group) for i in range(max(0, length - window), length))
            if kind == 3:
                return length == 0 or has(length - 1, group)
            return all(has(i, group) for i in range(length))

        with self.lock:
            longest = next(
                length
                for length in range(len(addresses), -1, -1)
                if all(supports(group, length) for group in counted)
            )
            bits = bytearray(-(-len(addresses) // 8))
            for index in range(len(addresses)):
                if all(has(index, group) for group in counted):
                    bits[index // 8] |= 1 << index % 8
        response = pb.MatchResponse(
            blocks=longest,
            tokens=longest * space.tokens_per_block,
            pending=[i for i, address in enumerate(addresses) if address in self.pending],
            present=bytes(bits) if request.want_bitmap else b"",
        )
        if longest:
            response.runs.add(first=0, count=longest, level=1)
            response.fetch_bytes = sum(
                len(data)
                for address in addresses[:longest]
                for part, (data, _) in self.blocks[address].items()
                if part[0] in counted
            )
        if longest and request.lease_ms:
            response.lease, response.lease_ms = next(self.ids), request.lease_ms
            self.leases[response.lease] = request.lease_ms
        return response

    def _blockservice_get(self, request, context):
        space = self._find(request.space, context)
        parts = [part_of(part) for part in request.parts] or [(0, 0, 0)]
        for index, (key, part) in enumerate(itertools.product(request.keys, parts)):
            stored = self.blocks.get((space.id, request.salt, key), {}).get(part)
            if stored is None:
                error = pb.ItemError(code=5, message="not there")
                yield pb.GetResponse(header=pb.GetHeader(index=index, error=error))
                continue
            runs = self._runs(space.groups[part[0]], len(stored[0]), request)
            following = sum(stop - start for start, stop in runs)
            yield pb.GetResponse(
                header=pb.GetHeader(
                    index=index, size=len(stored[0]), digest=digest_of(stored[0]), level=1,
                    bytes_following=following, depth=stored[1].depth,
                )
            )
            for start, stop in runs:
                for offset in range(start, stop, MESSAGE_BYTES):
                    data = stored[0][offset : min(stop, offset + MESSAGE_BYTES)]
                    yield pb.GetResponse(data=pb.GetData(index=index, offset=offset, data=data))
        self.leases.pop(request.lease, None)

    def _runs(self, group, size, request):
        if not request.first_layer and not request.layer_count:
            return [(0, size)]
        count = request.layer_count or group.layers - request.first_layer
        split_at = size
        if group.layout == 2 and group.v_dimension:
            split_at = size * group.k_dimension // (group.k_dimension + group.v_dimension)
        runs = []
        for start, stop in ((0, split_at), (split_at, size)):
            layer = (stop - start) // group.layers
            first = start + request.first_layer * layer
            runs.append((first, first + count * layer))
        return [run for run in runs if run[0] < run[1]]

    def _blockservice_renew(self, request, context):
        if request.lease not in self.leases:
            context.abort(grpc.StatusCode.NOT_FOUND, "lease: ended, or never was")
        if request.lease_ms == 0:
            del self.leases[request.lease]
        return pb.RenewResponse(lease_ms=request.lease_ms)

    # Keeping, deleting, looking

    def _blockservice_delete(self, request, context):
        space = self._find(request.space, context)
        what = request.WhichOneof("what")
        keys = set(request.keys.keys)

        def condition(address):
            if address[0] != space.id or (what != "all_of_space" and address[1] != request.salt):
                return False
            return what != "keys" or address[2] in keys

        return pb.DeleteResponse(parts_deleted=self._erase(condition))

    def _here(self, request, context):
        space = self._find(request.space, context)
        addresses = [(space.id, request.salt, key) for key in request.keys.keys]
        return [(i, a) for i, a in enumerate(addresses) if a in self.blocks], addresses

    def _blockservice_touch(self, request, context):
        return pb.TouchResponse(found=len(self._here(request, context)[0]))

    def _blockservice_prefetch(self, request, context):
        if not request.keys.keys and request.cancel:
            self.cancelled.append(request.cancel)
            return pb.PrefetchResponse()
        here, addresses = self._here(request, context)
        absent = len(addresses) - len(here)
        return pb.PrefetchResponse(
            prefetch=77, queued=len(here) * len(request.parts), absent=absent, dropped=request.cancel
        )

    def _blockservice_pin(self, request, context):
        here, addresses = self._here(request, context)
        self.pins.update(address for _, address in here)
        missing = set(range(len(addresses))) - {i for i, _ in here}
        parts = sum(len(self.blocks[address]) for _, address in here)
        return pb.PinResponse(parts_pinned=parts, missing=sorted(missing))

    def _blockservice_unpin(self, request, context):
        pinned = [address for _, address in self._here(request, context)[0] if address in self.pins]
        self.pins.difference_update(pinned)
        return pb.UnpinResponse(parts_unpinned=sum(len(self.blocks[a]) for a in pinned))

    def _infos(self, addresses):
        return [
            pb.PartInfo(
                key=address[2], part=offer.part, size=len(data), digest=digest_of(data), level=1,
                depth=offer.depth, parent=offer.parent, pinned=address in self.pins, codec="raw",
            )
            for address in addresses
            for data, offer in self.blocks[address].values()
        ]

    def _blockservice_describe(self, request, context):
        here = self._here(request, context)[0]
        return pb.DescribeResponse(parts=self._infos(address for _, address in here))

    def _blockservice_list(self, request, context):
        space = self._find(request.space, context)
        addresses = sorted(
            address
            for address in self.blocks
            if address[0] == space.id
            and (not request.HasField("salt") or address[1] == request.salt)
            and address[2].startswith(request.key_prefix)
        )
        first = int(request.page_token or b"0")
        last = first + (request.page_size or 1000)
        token = str(last).encode() if last < len(addresses) else b""
        return pb.ListBlocksResponse(parts=self._infos(addresses[first:last]), next_page_token=token)

    def _blockservice_flush(self, request, context):
        return pb.FlushResponse(parts_written=sum(len(parts) for parts in self.blocks.values()))

    def _publish(self, space, event):
        with self.lock:
            event.sequence = next(self.sequence)
            for watcher in self.watchers:
                watcher.put((space, event))

    def _blockservice_watch(self, request, context):
        space = self._find(request.space, context)
        events = queue.SimpleQueue()
        with self.lock:
            self.watchers.append(events)
            snapshot = [
                pb.BlockEvent(kind=1, key=address[2], part=pb.PartId(group=part[0]), level=1)
                for address, parts in self.blocks.items()
                if address[0] == space.id
                for part in parts
            ]
        context.add_callback(lambda: events.put(None))
        yield pb.WatchResponse(events=[*snapshot, pb.BlockEvent(kind=5)])
        while True:
            item = events.get()
            if item is None:
                return
            if item[0] == space.id:
                yield pb.WatchResponse(events=[item[1]])

    # Administration

    def _adminservice_getnodestatus(self, request, context):
        return pb.GetNodeStatusResponse(node_id="fake", ready=True, addresses=[f"grpc={self.target}"])

    def _adminservice_listlevels(self, request, context):
        return pb.ListLevelsResponse(levels=[pb.LevelInfo(level=1, label="l1_ram", parts=3)])

    def _adminservice_listtiers(self, request, context):
        return pb.ListTiersResponse(tiers=[pb.TierInfo(name="FOREGROUND", level=1, active=True)])

    def _adminservice_explainplacement(self, request, context):
        space = self._find(request.space, context)
        address = (space.id, request.salt, request.key)
        if address not in self.blocks:
            context.abort(grpc.StatusCode.NOT_FOUND, "key: not there")
        signals = [pb.Signal(name="uses", value=2)]
        return pb.ExplainPlacementResponse(
            parts=[
                pb.Placement(part=info, tier="FOREGROUND", copies=[1], rule="new", signals=signals)
                for info in self._infos([address])
            ]
        )

    def _adminservice_getconfig(self, request, context):
        entry = pb.ConfigEntry(key="memory.total", value="8GiB", origin="default")
        return pb.GetConfigResponse(entries=[entry])
