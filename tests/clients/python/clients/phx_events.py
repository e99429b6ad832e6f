"""phx-events: joins topics and hands on their events, by version 1 in binary frames. Its topics are named before it
connects, so each join has a connection."""

import asyncio
import contextlib
from collections import deque

from phx_events.client import PHXChannelsClient
from phx_events.topic_subscription import SubscriptionStatus


FOLLOWED = ("presence_state", "presence_diff", "shout")


class Ordered(PHXChannelsClient):
    """Each kind of event has a worker of its own, by which the order of a state and its diffs is lost: here the messages
    are put back in the order in which they came."""

    def __init__(self, url, hand_on):
        super().__init__(url, event_loop=asyncio.get_running_loop())
        self.hand_on = hand_on
        self.came = deque()
        self.handled = set()
        for event in FOLLOWED:
            self.register_event_handler(event, [self.handle])

    def _parse_message(self, socket_message):
        message = super()._parse_message(socket_message)
        if str(message.event) in FOLLOWED:
            self.came.append(message)
        return message

    async def handle(self, message, _client):
        self.handled.add(id(message))
        while self.came and id(self.came[0]) in self.handled:
            message = self.came.popleft()
            self.handled.remove(id(message))
            self.hand_on(str(message.event), message.payload)


class Client:
    def __init__(self, url, user, tell):
        self.url = f"{url}/websocket?user_id={user}"
        self.tell = tell
        self.running = []

    async def connect(self):
        pass

    async def join(self, topic):
        client = Ordered(self.url, lambda event, payload: self.tell(topic, event, payload))
        joined = client.register_topic_subscription(f"room:{topic}")
        self.running.append((client, asyncio.create_task(client.start_processing())))
        await joined.wait()
        result = client._topic_registration_status[f"room:{topic}"].result
        status = "ok" if result.status == SubscriptionStatus.SUCCESS else "error"
        return {"status": status, "response": result.result_message.payload["response"]}

    async def close(self):
        for client, processing in self.running:
            client.shutdown("the test is done")
            processing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await processing
