// A peer of the throughput benchmark: a BullMQ worker whose jobs call Converse by the JavaScript
// SDK, in the shape of a quick run: one call, then ten of which four at once; at most N calls of all
// jobs at a time. No database, no judgement. See bench/peers.py.
//
// Takes JSON on standard input: url, inFlight, texts, model, redis. Prints JSON as
// bench/boto3_baseline.py.
import { readFileSync } from "node:fs";
import { BedrockRuntimeClient, ConverseCommand } from "@aws-sdk/client-bedrock-runtime";
import { Queue, Worker } from "bullmq";
import { Redis } from "ioredis";

const CALLS_PER_JOB = 11;
const given = JSON.parse(readFileSync(0, "utf8"));
const connection = new Redis({ ...given.redis, maxRetriesPerRequest: null });
const client = new BedrockRuntimeClient({
  region: "us-east-1",
  endpoint: given.url,
  maxAttempts: 1,
  credentials: { accessKeyId: "BENCH", secretAccessKey: "bench" },
  requestHandler: { httpAgent: { keepAlive: true, maxSockets: given.inFlight } },
});
const waiting = [];
let free = given.inFlight;

async function call(text) {
  if (free > 0) free -= 1;
  else await new Promise((resolve) => waiting.push(resolve));
  try {
    await client.send(
      new ConverseCommand({
        modelId: given.model,
        messages: [{ role: "user", content: [{ text }] }],
        inferenceConfig: { maxTokens: 300 },
      }),
    );
  } finally {
    const next = waiting.shift();
    if (next) next();
    else free += 1;
  }
}

async function work(job) {
  const texts = [...job.data.texts];
  await call(texts.shift());
  const lane = async () => {
    while (texts.length) await call(texts.shift());
  };
  await Promise.all([lane(), lane(), lane(), lane()]);
}

const name = `bench-peer-${process.pid}`;
const queue = new Queue(name, { connection });
const jobs = [];
for (let at = 0; at < given.texts.length; at += CALLS_PER_JOB) {
  jobs.push({ name: "run", data: { texts: given.texts.slice(at, at + CALLS_PER_JOB) } });
}
await call("Are you there?");
await queue.addBulk(jobs);
const cpu = process.cpuUsage();
const started = performance.now();
let done = 0;
let failed = 0;
await new Promise((resolve) => {
  const worker = new Worker(name, work, {
    connection,
    concurrency: Math.max(1, Math.round((given.inFlight / 4) * 2.4)),
  });
  const ended = () => {
    done += 1;
    if (done === jobs.length) resolve();
  };
  worker.on("completed", ended);
  worker.on("failed", () => {
    failed += 1;
    ended();
  });
});
const used = process.cpuUsage(cpu);
console.log(
  JSON.stringify({
    seconds: (performance.now() - started) / 1000,
    cpuSeconds: (used.user + used.system) / 1e6,
    calls: given.texts.length,
    failed,
  }),
);
await queue.obliterate({ force: true });
process.exit(0);
