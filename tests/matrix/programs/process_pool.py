"""A multiprocessing pool that has worked before the snapshot, with its semaphores, queues and helper threads."""

import multiprocessing
import os

_context = multiprocessing.get_context("fork")
_kept = []


def work(number):
    _kept.append(number)
    return number * number


def where(_):
    return os.getpid(), os.getppid()


def prepare():
    pool = _context.Pool(2)
    assert pool.map(work, range(20)) == [number * number for number in range(20)]
    return pool, {worker.pid for worker in pool._pool}


def check(state):
    pool, workers = state
    found = pool.map(work, range(100, 140))
    places = set(pool.map(where, range(40), chunksize=1))
    alive = [worker.is_alive() for worker in pool._pool]
    pool.close()
    pool.join()
    return [
        found == [number * number for number in range(100, 140)],
        {number for number, _ in places} <= workers,
        {parent for _, parent in places} == {os.getpid()},
        alive,
        [worker.exitcode for worker in pool._pool],
    ]
