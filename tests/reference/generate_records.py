# SPDX-License-Identifier: Apache-2.0
"""A file of records with its index, by the real MXNet 1.9.1.

peer/bin/python tests/reference/generate_records.py tests/reference
(the environment `peer` is made as generate.py says)
"""

import struct
import sys
from pathlib import Path

import mxnet as mx

MAGIC = struct.pack("<I", 0xCED7230A)
#: with the magic word inside, at multiples of four and not
RECORDS = [
    b"first",
    b"",
    b"x" * 9,
    b"ab" + MAGIC + b"cd",
    b"abcd" + MAGIC + b"ef",
    MAGIC,
    MAGIC + MAGIC + b"z",
    b"abcd" + MAGIC,
]

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    paths = str(folder / "records.idx"), str(folder / "records.rec")
    record = mx.recordio.MXIndexedRecordIO(*paths, "w")
    for i, data in enumerate(RECORDS):
        record.write_idx(10 * i, data)
    header = mx.recordio.IRHeader(0, 4.5, 7, 8)
    record.write_idx(90, mx.recordio.pack(header, b"payload"))
    record.write_idx(91, mx.recordio.pack(header._replace(label=[1.5, 2, 3]), b"payload"))
    record.close()
