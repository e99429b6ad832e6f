// A cluster over a real NATS.

import { describeCluster } from "./lib/cluster.mjs";

describeCluster("nats");
