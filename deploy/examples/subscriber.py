"""Prints every panel's final outcome, one JSON line each: all that a third party needs is pyzmq and msgpack.

usage: python subscriber.py tcp://127.0.0.1:5570
"""

import json
import sys

import msgpack
import zmq

socket = zmq.Context().socket(zmq.SUB)
socket.connect(sys.argv[1])
socket.setsockopt(zmq.SUBSCRIBE, b"outcomes")
while True:
    topic, data = socket.recv_multipart()
    envelope = msgpack.unpackb(data)  # "sequence" counts up by one: a gap is a message that was missed
    said = {name: envelope["body"][name] for name in ("panel_id", "outcome", "fault", "defects")}
    print(json.dumps({"sequence": envelope["sequence"], **said}), flush=True)  # noqa: T201
