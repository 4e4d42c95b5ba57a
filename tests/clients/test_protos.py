"""Our messages are the SDK's: every field, number, type, label, enum value and method of ours is one of theirs."""

import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import harness
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor_pool import Default
from xai_sdk.proto import auth_pb2, batch_pb2, files_pb2, image_pb2, models_pb2, video_pb2

PROTO = harness.ROOT / "crates" / "borealis-server" / "proto"
THEIRS = (auth_pb2, batch_pb2, files_pb2, image_pb2, models_pb2, video_pb2)
# Asked for by nobody who makes images or videos: their own fields are not in our files.
PARTIAL = {"xai_api.LanguageModel", "xai_api.EmbeddingModel", "xai_api.GetCompletionsRequest", "xai_api.BatchCostBreakdown", "xai_api.BatchResultData"}


def ours():
    """Our files, compiled by grpcio-tools' protoc."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "set.bin"
        files = sorted(p.name for p in PROTO.glob("*.proto"))
        command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO}", f"--descriptor_set_out={out}", "--include_imports", *files]
        subprocess.run(command, check=True)
        found = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in found.file:
        pool.Add(file)
    return pool, [pool.FindFileByName(f.name) for f in found.file if f.package == "xai_api"]


def shape(field):
    """What matters on the wire and to the generated code."""
    kind = field.message_type.full_name if field.message_type else field.enum_type.full_name if field.enum_type else field.type
    return field.name, kind, field.is_repeated, field.has_presence


class Protos(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.pool, cls.files = ours()
        # Importing their modules has filled the default pool.
        assert THEIRS

    def test_messages(self):
        count = 0
        for file in self.files:
            for message in file.message_types_by_name.values():
                theirs = Default().FindMessageTypeByName(message.full_name)
                numbers = {f.number: shape(f) for f in message.fields}
                wanted = {f.number: shape(f) for f in theirs.fields}
                if message.full_name in PARTIAL:
                    wanted = {n: s for n, s in wanted.items() if n in numbers}
                self.assertEqual(numbers, wanted, message.full_name)
                count += 1
        self.assertGreater(count, 50)

    def test_enums(self):
        for file in self.files:
            for enum in file.enum_types_by_name.values():
                theirs = {v.name: v.number for v in Default().FindEnumTypeByName(enum.full_name).values}
                values = {v.name: v.number for v in enum.values}
                if enum.name == "ServerSideTool":
                    theirs = {k: v for k, v in theirs.items() if k in values}
                self.assertEqual(values, theirs, enum.full_name)

    def test_services(self):
        names = set()
        for file in self.files:
            for service in file.services_by_name.values():
                theirs = Default().FindServiceByName(service.full_name)
                methods = lambda s: {m.name: (m.input_type.full_name, m.output_type.full_name, m.client_streaming, m.server_streaming) for m in s.methods}
                self.assertEqual(methods(service), methods(theirs), service.full_name)
                names.add(service.name)
        self.assertEqual(names, {"Auth", "BatchMgmt", "Files", "Image", "Models", "Video"})


if __name__ == "__main__":
    unittest.main()
