"""The client of `listener --python` in unmodified CPython: python_client.py ADDRESS KEY MESSAGE…"""
import sys
from multiprocessing.connection import Client

address, key, *messages = sys.argv[1:]
kind, _, rest = address.partition(":")
if kind == "tcp":
    host, _, port = rest.rpartition(":")
    rest = (host, int(port))
with Client(rest, authkey=key.encode()) as connection:
    for message in messages:
        connection.send(message)
