"""The Python half of python.rs: opens the segment of that name, and squares the numbers in it."""

import sys
from multiprocessing import resource_tracker, shared_memory

name = sys.argv[1]
if sys.version_info >= (3, 13):
    shm = shared_memory.SharedMemory(name=name, track=False)
else:
    shm = shared_memory.SharedMemory(name=name)
    # Or it would take the name away, which is not its own.
    resource_tracker.unregister(shm._name, "shared_memory")

words = shm.buf.cast("q")
half = len(words) // 2
for n in range(half):
    words[half + n] = words[n] * words[n]
print(f"python: squared {half} numbers in {shm.size} bytes", flush=True)
words.release()
shm.close()
