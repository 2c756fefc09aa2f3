# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of a job on disk: safetensors parts and a JSON manifest that is written last.

A directory holds ``job.json`` (whose checkpoints they are), one ``checkpoint-N.json`` per
checkpoint, and the ``part-*.safetensors`` files that the manifests name. A part holds the chunks
of one shard, committed data only. A manifest lists its parts with size and SHA-256, so a part
that no manifest names does not exist for a reader. Everything is written to a temporary name,
fsynced and renamed. Reading executes nothing and checks every length before it is used.
"""

from kvtrain.checkpoint.directory import CheckpointDirectory, Found
from kvtrain.checkpoint.manifest import FORMAT, Manifest
from kvtrain.checkpoint.parts import part_name, read_part, write_part

__all__ = [
    "FORMAT",
    "CheckpointDirectory",
    "Found",
    "Manifest",
    "part_name",
    "read_part",
    "write_part",
]
