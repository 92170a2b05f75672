// The whole command contract in JavaScript: counts to a number, step by step, and can be stopped, resumed and asked to wait.
//
//     cg worker loop --profile cg-demo/worker-1 --command node examples/runtimes/runtime.mjs
//
// Input: {"task": "count", "steps": 5}. Other tasks end in other ways: "approve" (suspend), "later" (hand back),
// anything else (fail).
import { appendFileSync, existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

const HAND_BACK = 75;
const file = (name) => process.env[`CG_${name}_FILE`];
const read = (name) => JSON.parse(readFileSync(file(name), "utf8"));
const write = (name, value) => writeFileSync(file(name), JSON.stringify(value));

async function main() {
  const input = read("INPUT");
  switch (input.task) {
    case "count":
      return countTo(input.steps);
    case "approve":
      return write("SUSPEND", { reason: "waiting_for_approval", note: "say yes, then resume the turn" });
    case "later":
      return comeBackLater();
    default:
      return fail("unknown_task", "this runtime knows count, approve and later");
  }
}

/** Count, starting where an earlier attempt stopped. */
async function countTo(steps) {
  const first = existsSync(file("CHECKPOINT")) ? read("CHECKPOINT") : 0;
  let step = first;
  while (step < steps && !existsSync(file("STOP"))) {
    await sleep(100);
    saveCheckpoint(++step);
    record({ step, of: steps });
  }
  if (existsSync(file("STOP")) && read("STOP").reason === "shutdown") {
    process.exitCode = HAND_BACK; // the worker shuts down: another one goes on
    return;
  }
  const records = read("CONTEXT").semantic_items.length;
  write("FINAL", { counted: step, from: first, records, agent: process.env.CG_AGENT_ID });
}

/** Hand the turn back on the first attempt, and succeed on the next one. */
function comeBackLater() {
  if (existsSync(file("CHECKPOINT"))) {
    write("FINAL", { tried_again: true });
  } else {
    saveCheckpoint(1);
    process.exitCode = HAND_BACK;
  }
}

function fail(error, message) {
  write("FAILURE", { error, message });
  console.error(`${error}: ${message}`);
  process.exitCode = 1;
}

/** Append a process record to the turn: one line of JSON. */
function record(progress) {
  appendFileSync(file("PROGRESS"), JSON.stringify(progress) + "\n");
}

/** Write the checkpoint completely or not at all, even if the process is killed. */
function saveCheckpoint(value) {
  writeFileSync(`${file("CHECKPOINT")}.new`, JSON.stringify(value));
  renameSync(`${file("CHECKPOINT")}.new`, file("CHECKPOINT"));
}

await main();
