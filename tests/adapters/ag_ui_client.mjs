// Talk to an agent with the JavaScript client of AG-UI: ask, answer its interrupt, and print what was seen.
import { HttpAgent } from "@ag-ui/client";

const [url, bearer] = process.argv.slice(2);
const agent = new HttpAgent({ url, headers: { Authorization: `Bearer ${bearer}` }, threadId: "t-1" });
const seen = { types: [], deltas: [], error: null };
const subscriber = {
  onEvent: ({ event }) => void seen.types.push(event.type),
  onTextMessageContentEvent: ({ event }) => void seen.deltas.push(event.delta),
  onRunErrorEvent: ({ event }) => void (seen.error = event.message),
};

agent.messages = [{ id: "m-1", role: "user", content: "bells" }];
await agent.runAgent({ runId: "r-1" }, subscriber);
const interrupts = agent.pendingInterrupts;
const resume = interrupts.map(({ id }) => ({ interruptId: id, status: "resolved", payload: 3 }));
const { result } = await agent.runAgent({ runId: "r-2", resume }, subscriber);
console.log(JSON.stringify({ ...seen, interrupts, result, state: agent.state, messages: agent.messages }));
