// A client in a process of its own, which can be stopped as a machine that sleeps is: `node client.mjs URL USER TOPIC`.

import { Visitor } from "./dashboard.mjs";

const [url, user, topic] = process.argv.slice(2);
const visitor = await Visitor.join(url, user, topic);
setInterval(() => visitor.beat(), 1_000);
console.log("joined");
