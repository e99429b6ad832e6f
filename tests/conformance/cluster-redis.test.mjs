// A cluster over a real Redis.

import { describeCluster } from "./lib/cluster.mjs";

describeCluster("redis");
