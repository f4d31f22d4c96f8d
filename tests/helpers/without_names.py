#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A bundle without what names were added to it: plain text (zstd -dc) in, plain text out; format/FORMAT.md.

Without SymbolTable and LineTable, but for those of code that was made at run time (BinaryTable.kind 2): no file has them.
Says on standard error how many tables are left out."""
import sys

BINARIES, SYMBOLS, FOOTER, LINES = 4, 11, 15, 18


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at


def put_varint(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def fields(data):
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        if key & 7 == 0:
            value, at = varint(data, at)
        elif key & 7 == 2:
            size, at = varint(data, at)
            value, at = data[at:at + size], at + size
        else:
            sys.exit(f"a field of type {key & 7} at {at}: expected a number or bytes")
        yield key >> 3, value


def put_fields(all_fields):
    out = b""
    for number, value in all_fields:
        if isinstance(value, int):
            out += put_varint(number << 3) + put_varint(value)
        else:
            out += put_varint(number << 3 | 2) + put_varint(len(value)) + value
    return out


def main():
    made_at_run_time, kept, left_out = set(), 0, 0
    for _, chunk in fields(sys.stdin.buffer.read()):
        body = [f for f in fields(chunk) if f[0] != 1]
        number, value = body[0]
        if number == BINARIES:
            for _, row in fields(value):
                row = dict(fields(row)) if isinstance(row, bytes) else {}
                if row.get(4) == 2:
                    made_at_run_time.add(row.get(1))
        if number in (SYMBOLS, LINES) and dict(fields(value)).get(1, 0) not in made_at_run_time:
            left_out += 1
            continue
        if number == FOOTER:
            body = [(FOOTER, put_fields([(1, kept)] + [f for f in fields(value) if f[0] not in (1, 8)]))]
        sys.stdout.buffer.write(put_fields([(1, put_fields(([(1, kept)] if kept else []) + body))]))
        kept += 1
    print(left_out, file=sys.stderr)


main()
