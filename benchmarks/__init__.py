"""What the library costs its host, beside the least possible and beside its peers.

``python -m benchmarks`` prints tables; ``docs/performance.md`` says what they mean.
Times on a shared machine mean little, so every figure that counts is a ratio of two
measurements that took turns: to the *ruler*, which is `json.dumps` or `orjson.dumps` of
the event's properties, or to the *floor*, a program that only builds the same events,
serialises them and writes them to a socket.

Every measurement runs in a fresh process; nothing leaves the loopback interface.
"""
