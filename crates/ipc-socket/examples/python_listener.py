"""The listener for `client --python` in unmodified CPython: python_listener.py ADDRESS KEY; ends at `close`."""
import sys
from multiprocessing.connection import Listener

address, key = sys.argv[1:]
kind, _, rest = address.partition(":")
if kind == "tcp":
    host, _, port = rest.rpartition(":")
    rest = (host, int(port))
with Listener(rest, authkey=key.encode()) as listener:
    with listener.accept() as connection:
        while (message := connection.recv()) != "close":
            print(message, flush=True)
