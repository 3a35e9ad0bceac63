"""Reads recordings with Python's mcap alone, by the schemas inside them: nothing of Tickwire's is imported.

python read_recordings.py RECORDING PLAIN: a recording with all its ticks, and `recordings export --format mcap` of it.
"""

import json
import sys

from mcap.reader import make_reader
from mcap_protobuf.decoder import DecoderFactory


def read_recording(path):
    """How many ticks and inputs the recording has, by its own schemas."""
    with open(path, "rb") as file:
        reader = make_reader(file, validate_crcs=True, decoder_factories=[DecoderFactory()])
        ticks, inputs, header, end, batches = 0, 0, None, None, []
        for schema, channel, message, decoded in reader.iter_decoded_messages():
            assert schema.encoding == "protobuf", schema.encoding
            if channel.topic == "header":
                header = decoded
            elif channel.topic == "tick_batch":
                assert decoded.first == ticks + 1, (decoded.first, ticks)
                check_time(message, decoded.first, header.tick_rate)
                inputs += check_batch(decoded, header.schema)
                ticks = decoded.last
                batches.append(message.log_time)
            elif channel.topic == "tick_input":
                assert decoded.tick == ticks + 1, (decoded.tick, ticks)
                inputs += sum(1 for seat in decoded.inputs if seat.values)
            elif channel.topic == "tick_result":
                ticks += 1
                assert decoded.tick == ticks, (decoded.tick, ticks)
                check_time(message, ticks, header.tick_rate)
            elif channel.topic == "idle_ticks":
                ticks = decoded.last
            elif channel.topic == "end":
                end = decoded
    assert header is not None and end is not None, "header and end"
    # The header names what the numbers of the ticks mean.
    kinds = {kind.name: [field.name for field in kind.fields] for kind in header.schema.kinds}
    assert header.schema.game == "arena" and "x" in kinds["player"], kinds
    assert end.tick == ticks, (end.tick, ticks)
    assert inputs > ticks, (inputs, ticks)
    with open(path, "rb") as file:
        check_seeks(make_reader(file), batches)
    return header, ticks


def check_time(message, tick, tick_rate):
    expected = (tick * 1_000_000_000) // tick_rate
    assert abs(message.log_time - expected) <= 1, (message.log_time, expected)


def check_batch(batch, schema):
    """How many fresh inputs the columns of several ticks have: each says as much as the others."""
    ticks = batch.last - batch.first + 1
    assert len(batch.state_hashes) == ticks, (len(batch.state_hashes), ticks)
    fresh = sum(run // 4 for run in batch.inputs.runs if run % 4 == 1)
    assert sum(run // 4 for run in batch.inputs.runs) == ticks * len(batch.inputs.players)
    assert len(batch.inputs.sequences) == len(batch.inputs.masks) == fresh, fresh
    changed = [sum(mask >> i & 1 for mask in batch.inputs.masks) for i in range(len(schema.inputs))]
    assert not batch.inputs.players or changed == [len(column.numbers) for column in batch.inputs.values], changed
    for columns in batch.truth:
        assert sum(columns.change_counts) == len(columns.ticks) == len(columns.masks)
        changed = [sum(mask >> i & 1 for mask in columns.masks) for i in range(len(columns.differences))]
        assert changed == [len(column.numbers) for column in columns.differences], changed
    return fresh


def check_seeks(reader, times):
    """A range of time has the batches that begin in it, found by the file's indexes."""
    for start in times[:: max(1, len(times) // 7)]:
        end = start + 4_000_000_000
        found = [message.log_time for _, _, message in reader.iter_messages(["tick_batch"], start, end)]
        assert found == [time for time in times if start <= time < end], (start, found)


def read_plain(path, tick_rate, ticks):
    """The export for programs that plot: numbers in plain fields, on a topic per kind."""
    positions = {}
    with open(path, "rb") as file:
        reader = make_reader(file)
        for schema, channel, message in reader.iter_messages():
            assert (schema.encoding, channel.message_encoding) == ("jsonschema", "json"), schema.encoding
            properties = json.loads(schema.data)["properties"]
            value = json.loads(message.data)
            assert value.keys() == properties.keys(), (value, properties)
            numbers = (name for name in value if properties[name]["type"] in ("number", "integer"))
            assert all(isinstance(value[name], (int, float)) for name in numbers), value
            if channel.topic == "/entity/player":
                assert properties["x"]["description"] == "m", properties["x"]
                tick = round(message.log_time * tick_rate / 1_000_000_000)
                positions.setdefault(value["net_id"], []).append((tick, value["x"]))
    assert len(positions) > 1, "several players"
    for line in positions.values():
        assert line[-1][0] <= ticks and [tick for tick, _ in line] == sorted(tick for tick, _ in line)
    assert any(len({x for _, x in line}) > 10 for line in positions.values()), "somebody moves"
    return sum(map(len, positions.values()))


def main():
    recording, plain = sys.argv[1:]
    header, ticks = read_recording(recording)
    points = read_plain(plain, header.tick_rate, ticks)
    print(f"{recording}: {ticks} ticks by its own schemas; {plain}: {points} points to plot")


if __name__ == "__main__":
    main()
