"""A JVM's class histogram, read; and who is not asked for one."""

from __future__ import annotations

import os

from thaw.publish.java_classes import class_histogram, rows_of

ANSWER = """ num     #instances         #bytes  class name (module)
-------------------------------------------------------
   1:         11508        1908352  [B (java.base@17.0.15)
   2:            12           2048  [[Ljava.lang.String; (java.base@17.0.15)
   3:            98          50000  com.example.Order$Line
   4:             1             16  [[[I
Total         11619        1960416
"""


def test_rows_are_classes_as_java_writes_them_the_largest_first() -> None:
    assert rows_of(ANSWER) == [
        ("byte[]", 11508, 1908352),
        ("com.example.Order$Line", 98, 50000),
        ("java.lang.String[][]", 12, 2048),
        ("int[][][]", 1, 16),
    ]
    assert rows_of("The command is not there.") == []


def test_a_process_that_is_no_jvm_is_not_asked() -> None:
    user = os.geteuid()
    assert class_histogram(os.getpid(), 1.0) is None
    assert os.geteuid() == user
