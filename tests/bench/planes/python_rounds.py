"""The Python side of bench_python: does what lines on its input say, and answers seconds.

    python_rounds.py MNEMO_TARGET SPACE fast|bulk BYTES

A line is "put PREFIX CALLS" or "get PREFIX CALLS".
"""

import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3] / "client" / "python"))

from mnemod import Block, Client, Plane, alloc


def main() -> None:
    target, name, plane, size = sys.argv[1], sys.argv[2], Plane(sys.argv[3]), int(sys.argv[4])
    with Client(target, plane=plane) as client:
        if plane is Plane.FAST:
            memory = alloc(2 * size)
            client.register(memory)
            view = memory.view
        else:
            view = memoryview(bytearray(2 * size))
        payload, into = view[:size], view[size : 2 * size]
        payload[:] = bytes(i * 131 >> 3 & 255 for i in range(2048)) * (size // 2048)
        space = client.get_space(name)
        for line in sys.stdin:
            what, prefix, calls = line.split()
            keys = [f"{prefix}{i}".encode() for i in range(int(calls))]
            start = time.perf_counter()
            for key in keys:
                if what == "put":
                    (result,) = space.put([Block(key, payload)])
                else:
                    (result,) = space.get([key], into=[into])
                assert result.ok and result.plane is plane, result
            print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    main()
