"""realtime: Supabase's client for Python, by version 1."""

import asyncio

from realtime import AsyncRealtimeClient, RealtimeSubscribeStates


class Client:
    def __init__(self, url, user, tell):
        self.socket = AsyncRealtimeClient(url, "anon", max_retries=100, initial_backoff=0.05)
        self.user = user
        self.tell = tell
        self.channels = {}

    async def connect(self):
        await self.socket.connect()

    async def join(self, topic):
        is_private = topic == "denied"
        config = {
            "broadcast": {"ack": True, "self": False},
            "presence": {"key": self.user, "enabled": True},
            "private": is_private,
        }
        channel = self.socket.channel("private:denied" if is_private else topic, {"config": config})
        channel.on_broadcast("shout", lambda said: self.tell(topic, "shout", said["payload"]))
        channel.on_presence_sync(lambda: self.tell(topic, "here", channel.presence_state()))
        answer = asyncio.get_running_loop().create_future()
        tasks = set()

        async def track():
            await channel.track({"status": "new"})
            if not answer.done():
                answer.set_result({"status": "ok"})

        def subscribed(state, error):
            # After a reconnect, too.
            if state == RealtimeSubscribeStates.SUBSCRIBED:
                tasks.add(asyncio.create_task(track()))
            elif not answer.done():
                answer.set_result({"status": "error", "response": {"reason": str(error)}})

        await channel.subscribe(subscribed)
        self.channels[topic] = channel
        if (await answer)["status"] != "ok":
            await channel.unsubscribe()
        return answer.result()

    async def say(self, topic, payload):
        await self.channels[topic].send_broadcast("shout", payload)

    async def update(self, topic, payload):
        await self.channels[topic].track(payload)

    async def leave(self, topic):
        await self.channels.pop(topic).unsubscribe()
        return {"status": "ok"}

    async def close(self):
        await self.socket.close()
