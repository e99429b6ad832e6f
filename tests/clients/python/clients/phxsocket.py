"""phxsocket: threads, version 1, refs that are numbers from 0."""

import asyncio

from phxsocket import Client as Socket
from phxsocket.channel import ChannelConnectError


class Client:
    def __init__(self, url, user, tell):
        self.socket = Socket(f"{url}/websocket", {"user_id": user})
        self.tell = tell

    async def connect(self):
        await asyncio.to_thread(self.socket.connect)

    async def join(self, topic):
        channel = self.socket.channel(f"room:{topic}")
        for event in ("presence_state", "presence_diff", "shout"):
            channel.on(event, lambda payload, event=event: self.tell(topic, event, payload))
        try:
            return {"status": "ok", "response": await asyncio.to_thread(channel.join)}
        except ChannelConnectError as error:
            return {"status": "error", "response": error.args[0]}

    async def push(self, topic, event, payload):
        sent = self.socket.channel(f"room:{topic}").push(event, payload, reply=True)
        return await asyncio.to_thread(sent.wait_for_response)

    def echo(self, topic, payload):
        return self.push(topic, "echo", payload)

    def fail(self, topic, payload):
        return self.push(topic, "fail", payload)

    def say(self, topic, payload):
        return self.push(topic, "shout_from", payload)

    def update(self, topic, payload):
        return self.push(topic, "update", payload)

    async def close(self):
        await asyncio.to_thread(self.socket.close)
