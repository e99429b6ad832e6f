"""Runs clients of one library: requests come as lines of JSON, and what the clients see goes out as such."""

import asyncio
import importlib
import json
import sys
import threading
import traceback

_writing = threading.Lock()


def write(message):
    with _writing:
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()


async def handle(request, clients, library):
    number, what = request["client"], request["do"]
    if what == "connect":

        def tell(topic, event, payload):
            write({"client": number, "topic": topic, "event": event, "payload": payload})

        clients[number] = library.Client(request["url"], request["user"], tell)
        return await clients[number].connect()
    if what == "close":
        return await clients.pop(number).close()
    if what in ("join", "leave"):
        return await getattr(clients[number], what)(request["topic"])
    return await getattr(clients[number], what)(request["topic"], request["payload"])


async def answer(request, clients, library):
    try:
        write({"id": request["id"], "result": await handle(request, clients, library)})
    except Exception:
        write({"id": request["id"], "error": traceback.format_exc()})


async def main(library):
    lines = asyncio.StreamReader(limit=1 << 20)
    protocol = asyncio.StreamReaderProtocol(lines)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    clients, tasks = {}, set()
    while line := await lines.readline():
        task = asyncio.create_task(answer(json.loads(line), clients, library))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


asyncio.run(main(importlib.import_module(f"clients.{sys.argv[1]}")))
