"""Two thousand clients that are slow on purpose, and one that is not. Standard library only: `slow.py [CONNECTIONS]`.

A quarter each: connect and say nothing; send a head byte by byte; send a body byte by byte; ask once and then keep the line open. All of them must be
closed by the server 10 seconds after they stopped being useful, and somebody who polls meanwhile must not notice.
"""

import asyncio
import resource
import statistics
import sys
import tempfile
import time

import harness

PATIENCE = 10
# A busy machine closes its two thousand connections a little later.
SLACK = 8
# Polls of the client that is not slow, milliseconds. The slowest are told, not judged: they are those of a machine that does other things, too.
GOOD = 250


def head(server, length):
    return (
        f"POST /v1/videos/generations HTTP/1.1\r\nhost: borealis\r\nauthorization: Bearer {server.key}\r\n"
        f"content-type: application/json\r\ncontent-length: {length}\r\n"
    ).encode()


async def slow(server, kind, closed):
    """One connection; notes how long the server let it be."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(server.port))
    begin = time.monotonic()
    try:
        if kind == "head":
            writer.write(b"GET /healthz HTTP/1.1\r\nhost: bore")
        elif kind == "body":
            writer.write(head(server, 1000) + b"\r\n{")
        elif kind == "kept":
            writer.write(b"GET /healthz HTTP/1.1\r\nhost: borealis\r\n\r\n")
            await reader.readuntil(b"}")
            begin = time.monotonic()
        ended = asyncio.create_task(reader.read(-1))
        while not ended.done():
            if kind in ("head", "body"):
                writer.write(b"a")
            await asyncio.wait([ended], timeout=1)
        await ended
    except (ConnectionError, asyncio.IncompleteReadError):
        pass
    finally:
        closed[kind].append(time.monotonic() - begin)
        writer.close()


async def polls(server, id, times, stop):
    """A client that does as it should, on one connection."""
    request = f"GET /v1/videos/{id} HTTP/1.1\r\nhost: borealis\r\nauthorization: Bearer {server.key}\r\n\r\n".encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", int(server.port))
    while not stop.is_set():
        begin = time.perf_counter()
        writer.write(request)
        status = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line.split(b":")[1]) for line in status.split(b"\r\n") if line.lower().startswith(b"content-length"))
        await reader.readexactly(length)
        times.append((time.perf_counter() - begin) * 1000)
        await asyncio.sleep(0.05)
    writer.close()


async def crowd(server, id, count):
    closed = {kind: [] for kind in ("silent", "head", "body", "kept")}
    times, stop = [], asyncio.Event()
    good = asyncio.create_task(polls(server, id, times, stop))
    kinds = list(closed) * (count // 4)
    tasks = []
    for n, kind in enumerate(kinds):
        tasks.append(asyncio.create_task(slow(server, kind, closed)))
        if n % 100 == 0:
            # A system with a short queue of new connections would drop the rest of them unseen.
            await asyncio.sleep(0.05)
    _, open_still = await asyncio.wait(tasks, timeout=60)
    for task in open_still:
        task.cancel()
    stop.set()
    await good
    return closed, sorted(times)


def main(count):
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if most < count + 100:
        print(f"skipped: this process may open {most} files, {count} connections need more (ulimit -n)")
        return
    with tempfile.TemporaryDirectory() as data:
        server = harness.Server(harness.binary(), data).start()
        try:
            _, _, body = server.call("POST", "/v1/videos/generations", {"prompt": "a ball", "duration": 1, "resolution": "480p"})
            id = body["request_id"]
            server.wait(id)
            closed, times = asyncio.run(crowd(server, id, count))
            for kind, after in closed.items():
                print(f"{kind:6}: {len(after)} closed after {min(after):.1f} to {max(after):.1f} s", flush=True)
                assert len(after) == count // 4 and max(after) < PATIENCE + SLACK, kind
                assert min(after) > PATIENCE - 1.5, f"{kind}: nobody is sent away early"
            p99 = times[int(len(times) * 0.99)]
            median = statistics.median(times)
            print(f"polls meanwhile: {len(times)}, median {median:.1f} ms, p99 {p99:.1f} ms")
            assert median < GOOD, f"{median:.0f} ms"
            assert server.call("GET", "/healthz", key=False)[0] == 200
        finally:
            code = server.stop()
        assert code == 0, code
    print(f"ok: {count} slow connections were closed, polls went on")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
