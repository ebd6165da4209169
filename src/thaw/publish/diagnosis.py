"""Why a process could not be frozen, with what its own interpreter knows: where in the source the obstacle was made."""

from __future__ import annotations

from collections import Counter

from thaw.errors import NotFreezable
from thaw.publish.report import Place, Report, Thread, made_text, place_text


def diagnosed(error: NotFreezable, report: Report | None) -> NotFreezable:
    """The same refusal; its sentence is followed by one about where the thing was made, if that can be known."""
    origin = "" if report is None else _origin(error, report)
    return NotFreezable(f"{error} {origin}", resource=error.resource, number=error.number) if origin else error


def _origin(error: NotFreezable, report: Report) -> str:
    if error.resource == "descriptor":
        return _origin_of_descriptor(error.number, report)
    if error.resource == "process":
        return _origin_of_process(error.number, report)
    if error.resource == "thread":
        thread = next((one for one in report.threads if one.number == error.number), None)
        return "" if thread is None else f"{_thread_text(thread)}."
    if error.resource == "threads":
        return _most_threads(report.threads)
    return ""


def _origin_of_descriptor(number: int, report: Report) -> str:
    """Where a socket was made, or who holds a file."""
    made = next((one.made for one in report.sockets if one.descriptor == number), [])
    if made:
        return f"It was {made_text(made)}."
    holder = next((one.holder for one in report.files if one.descriptor == number), "")
    return f"It is held by {holder}." if holder else ""


def _origin_of_process(number: int, report: Report) -> str:
    """By its number; or, where Python saw only a fork, by the one place that forks."""
    found = [one for one in report.children if one.number == number and one.made]
    found += [one for one in report.children if one.number == 0]
    if not found:
        return ""
    command = f" as {found[0].command!r}" if found[0].command else ""
    return f"It was {made_text(found[0].made)}{command}."


def _thread_text(thread: Thread) -> str:
    made = f" was {made_text(thread.made)}, and" if thread.made else ""
    where = f" is at {place_text(thread.at[-1])}" if thread.at else " runs"
    return f"Python calls it {thread.name!r}; it{made}{where}"


def _most_threads(threads: list[Thread]) -> str:
    """Where most of the threads were made."""
    places: Counter[Place] = Counter(one.made[0] for one in threads if one.made)
    if not places:
        return ""
    ((place, count),) = places.most_common(1)
    return f"Most of those that Python knows ({count}) were made in {place_text(place)}."
