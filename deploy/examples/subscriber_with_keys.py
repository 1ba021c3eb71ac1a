"""The same as subscriber.py from another host, where only listed clients get in; see `takt keys`.

usage: python subscriber_with_keys.py tcp://192.168.0.7:5570 mes.key_secret server.key
"""

import json
import sys

import msgpack
import zmq
from zmq.auth import load_certificate

socket = zmq.Context().socket(zmq.SUB)
socket.curve_publickey, socket.curve_secretkey = load_certificate(sys.argv[2])
socket.curve_serverkey = load_certificate(sys.argv[3])[0]
socket.connect(sys.argv[1])
socket.setsockopt(zmq.SUBSCRIBE, b"outcomes")
while True:
    topic, data = socket.recv_multipart()
    envelope = msgpack.unpackb(data)  # "sequence" counts up by one: a gap is a message that was missed
    said = {name: envelope["body"][name] for name in ("panel_id", "outcome", "fault", "defects")}
    print(json.dumps({"sequence": envelope["sequence"], **said}), flush=True)  # noqa: T201
