// A resident command in JavaScript: it stays, gets turns as lines on stdin, and answers on stdout.
//
//     cg worker loop --profile cg-demo/worker-1 --resident --command node examples/runtimes/resident/resident.mjs
//
// Input: {"task": "count", "steps": 5}. Other tasks end in other ways: "approve" (suspend), "later" (hand back),
// anything else (fail).
import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";

const read = (path) => JSON.parse(readFileSync(path, "utf8"));

/** Write one line for the turn. Only these lines go to stdout; everything else goes to stderr. */
const answer = (given, said) => process.stdout.write(JSON.stringify({ id: given.id, ...said }) + "\n");

async function work(given) {
  const input = "input" in given ? given.input : read(given.input_file);
  switch (input?.task) {
    case "count":
      return countTo(input.steps, given);
    case "approve":
      return answer(given, { suspend: { reason: "waiting_for_approval", note: "say yes, then resume the turn" } });
    case "later":
      return comeBackLater(given);
    default:
      return fail(given, "unknown_task", "this runtime knows count, approve and later");
  }
}

/** Count, starting where an earlier attempt stopped. */
async function countTo(steps, given) {
  const first = existsSync(given.checkpoint_file) ? read(given.checkpoint_file) : 0;
  let step = first;
  while (step < steps && !existsSync(given.stop_file)) {
    await sleep(100);
    save(given.checkpoint_file, ++step);
    answer(given, { progress: { step, of: steps } });
  }
  if (existsSync(given.stop_file) && read(given.stop_file).reason === "shutdown") {
    return answer(given, { hand_back: {} }); // the worker shuts down: another one goes on
  }
  const context = given.context ?? read(given.context_file);
  const records = context.semantic_items.length;
  answer(given, { final: { counted: step, from: first, records, agent: given.agent_id } });
}

/** Hand the turn back on the first attempt, and succeed on the next one. */
function comeBackLater(given) {
  if (existsSync(given.checkpoint_file)) {
    answer(given, { final: { tried_again: true } });
  } else {
    save(given.checkpoint_file, 1);
    answer(given, { hand_back: {} });
  }
}

function fail(given, error, message) {
  console.error(`${error}: ${message}`);
  answer(given, { failure: { error, message } });
}

/** Write the checkpoint completely or not at all, even if the process is killed. */
function save(checkpoint, value) {
  writeFileSync(`${checkpoint}.new`, JSON.stringify(value));
  renameSync(`${checkpoint}.new`, checkpoint);
}

for await (const line of createInterface({ input: process.stdin })) {
  await work(JSON.parse(line));
}
