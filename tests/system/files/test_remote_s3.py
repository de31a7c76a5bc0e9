"""S3 as it is spoken: a server on this machine, s3fs as users have it. Needs ``s3fs`` and ``moto[s3]`` with Flask."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.system.files.test_sharded_outputs import SPEC

pytestmark = pytest.mark.slow

#: In a process of its own: libraries of others warn, and their threads outlive a test.
SCRIPT = """
    import sys
    from pathlib import Path
    from moto.server import ThreadedMotoServer
    import boto3, fsspec
    import bot_onnx
    from benchmarks.memory import Sizes, write_llama

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    endpoint = "http://%s:%s" % server.get_host_and_port()
    fsspec.config.conf["s3"] = {"endpoint_url": endpoint, "key": "k", "secret": "s"}
    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
    client.create_bucket(Bucket="models")

    folder, spec = Path(sys.argv[1]), eval(sys.argv[2])
    source = folder / "llama.onnx"
    write_llama(source, 3, sizes=Sizes(48, 6, 2, 8, 64, 97))
    for file in folder.glob("llama.onnx*"):
        client.upload_file(str(file), "models", f"in/{file.name}")

    def held():
        found = client.list_objects_v2(Bucket="models").get("Contents", [])
        return {one["Key"]: client.get_object(Bucket="models", Key=one["Key"])["Body"].read() for one in found}

    before = held()
    there = bot_onnx.inspect("s3://models/in/llama.onnx")
    assert there.structure == bot_onnx.inspect(source).structure
    made = bot_onnx.resize("s3://models/in/llama.onnx", spec, "s3://models/out/small.onnx", external="9kB")
    assert str(made.output) == "s3://models/out/small.onnx"
    bot_onnx.resize(source, spec, folder / "here" / "small.onnx", external="9kB")
    expected = {f"out/{file.name}": file.read_bytes() for file in (folder / "here").iterdir()}
    assert held() == before | expected
    assert bot_onnx.verify("s3://models/out/small.onnx", against="s3://models/in/llama.onnx").passed
    for wrong, force in (("s3://models/out/small.onnx", False), ("s3://models/in/llama.onnx", True),
                         ("s3://nobucket/x.onnx", False)):
        try:
            bot_onnx.resize("s3://models/in/llama.onnx", spec, wrong, force=force)
        except bot_onnx.OutputError as error:
            print(error)
        else:
            raise AssertionError(wrong)
    for wrong in ("s3://models/in/none.onnx", "s3://nobucket/x.onnx"):
        try:
            bot_onnx.inspect(wrong)
        except bot_onnx.GraphError as error:
            print(error)
        else:
            raise AssertionError(wrong)
    assert held() == before | expected
    # A file of several parts: above 5 MiB s3fs uploads by parts.
    write_llama(folder / "big.onnx", 1, sizes=Sizes(640, 10, 5, 64, 1792, 8000))
    bot_onnx.resize(folder / "big.onnx", {"hidden": 576, "heads": 9, "kv_heads": 9}, "s3://models/big/small.onnx")
    assert bot_onnx.verify("s3://models/big/small.onnx", against=folder / "big.onnx").passed
    bot_onnx.resize(source, {"layers": 2}, "s3://models/out/small.onnx", force=True, external=False)
    assert set(held()) == set(before) | {"out/small.onnx"} | {key for key in held() if key.startswith("big/")}
    server.stop()
"""


def test_a_bucket(tmp_path: Path) -> None:
    pytest.importorskip("s3fs")
    pytest.importorskip("moto")
    keys = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_DEFAULT_REGION": "us-east-1"}
    told = [sys.executable, "-c", textwrap.dedent(SCRIPT), str(tmp_path), repr(SPEC)]
    done = subprocess.run(told, capture_output=True, text=True, env={**os.environ, **keys}, check=False, timeout=600)
    assert done.returncode == 0, done.stderr[-4000:]
    said = done.stdout.splitlines()
    assert len(said) == 5 and all("s3://" in line for line in said), said
    assert "exists already" in said[0] and "is a source" in said[1] and "check the address" in said[3]
