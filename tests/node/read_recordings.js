// Reads recordings as Foxglove does, by the libraries that its makers publish for that; nothing of Tickwire's is imported.
//
// node read_recordings.js RECORDING PLAIN: a recording with all its ticks, and `recordings export --format mcap` of it.

import assert from "node:assert/strict";
import { open } from "node:fs/promises";

import { McapIndexedReader } from "@mcap/core";
import { FileHandleReadable } from "@mcap/nodejs";
import { loadDecompressHandlers, protobufFromBinaryDescriptor } from "@mcap/support";

const decompressHandlers = await loadDecompressHandlers();

/** Opens a file by its indexes, without which players of large files refuse one. */
async function withReader(path, use) {
  const file = await open(path, "r");
  try {
    const readable = new FileHandleReadable(file);
    return await use(await McapIndexedReader.Initialize({ readable, decompressHandlers }));
  } finally {
    await file.close();
  }
}

/** The tick rate, and how many ticks the recording has by its own schemas. */
function readRecording(path) {
  return withReader(path, async (reader) => {
    const types = new Map();
    for (const [id, schema] of reader.schemasById) {
      assert.equal(schema.encoding, "protobuf");
      types.set(id, protobufFromBinaryDescriptor(schema.data).lookupType(schema.name));
    }
    let header, end, last = 0;
    for await (const message of reader.readMessages()) {
      const channel = reader.channelsById.get(message.channelId);
      const decoded = types.get(channel.schemaId).toObject(types.get(channel.schemaId).decode(message.data), { longs: Number });
      if (channel.topic === "header") header = decoded;
      if (channel.topic === "end") end = decoded;
      if (channel.topic === "tick_result") last = decoded.tick;
      if (channel.topic === "idle_ticks" || channel.topic === "tick_batch") last = decoded.last;
    }
    assert.equal(header.schema.game, "arena");
    assert.equal(end.tick, last);
    return { tickRate: header.tick_rate, ticks: last };
  });
}

/** The lines that the path `/entity/player{net_id==ID}.x` plots over log time, by net ID. */
function plottedLines(path) {
  return withReader(path, async (reader) => {
    for (const schema of reader.schemasById.values()) {
      assert.equal(schema.encoding, "jsonschema");
      // Without the type of the whole a player shows a topic, but no fields to choose.
      assert.equal(JSON.parse(new TextDecoder().decode(schema.data)).type, "object", schema.name);
    }
    const lines = new Map();
    for await (const message of reader.readMessages({ topics: ["/entity/player"] })) {
      assert.equal(reader.channelsById.get(message.channelId).messageEncoding, "json");
      const { net_id: netId, x } = JSON.parse(new TextDecoder().decode(message.data));
      assert.equal(typeof x, "number");
      lines.set(netId, [...(lines.get(netId) ?? []), { time: message.logTime, x }]);
    }
    return lines;
  });
}

const [recording, plain] = process.argv.slice(2);
const { tickRate, ticks } = await readRecording(recording);
const lines = await plottedLines(plain);
assert(lines.size > 1, "several players");
const endTime = (BigInt(ticks) * 1_000_000_000n) / BigInt(tickRate);
for (const line of lines.values()) {
  assert(line.every(({ time }, i) => i === 0 || line[i - 1].time < time), "a line goes on in time");
  assert(line.at(-1).time <= endTime);
}
assert([...lines.values()].some((line) => new Set(line.map(({ x }) => x)).size > 10), "somebody moves");
const points = [...lines.values()].reduce((sum, line) => sum + line.length, 0);
console.log(`${recording}: ${ticks} ticks by its own schemas; ${plain}: ${lines.size} lines of ${points} points to plot`);
